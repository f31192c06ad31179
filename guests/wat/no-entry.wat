;; Valid, but with neither `_start` nor `run`.
(module (func (export "other") (result i32) (i32.const 1)))

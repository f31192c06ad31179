;; A `_start` that wants an argument is no entry.
(module (func (export "_start") (param i32)))

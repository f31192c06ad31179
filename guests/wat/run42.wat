;; `run() -> i32`: 42, and no import at all.
(module (func (export "run") (result i32) (i32.const 42)))

;; Traps in its start section, before any entry is called.
(module
  (func $init unreachable)
  (start $init)
  (func (export "_start")))

;; Grows a table until it is refused: 0 when that came, 1 when ten million entries were given (T-06).
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (table $t 1 funcref)
  (func (export "_start")
    (loop $more
      (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
        (then (call $proc_exit (i32.const 0)) unreachable))
      (br_if $more (i32.lt_u (table.size $t) (i32.const 10000000))))
    (call $proc_exit (i32.const 1))
    unreachable))

;; Grows its memory a page at a time until it is refused, writes to the last byte it got, and ends with the pages it has, capped at 125.
;; A limiter makes `memory.grow` answer -1; it never ends the host (T-06).
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (local $pages i32)
    (block $refused
      (loop $more
        (br_if $refused (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 7))
        (br $more)))
    (local.set $pages (memory.size))
    (if (i32.gt_u (local.get $pages) (i32.const 125)) (then (local.set $pages (i32.const 125))))
    (call $proc_exit (local.get $pages))
    unreachable))

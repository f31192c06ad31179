;; Hands the host vectors that lie outside its memory, wrap around, or claim to be endless; every answer must be an error number and the host
;; must live on (T-05). Ends with how many of the four calls were refused.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (local $refused i32)
    ;; The vector itself lies beyond the end.
    (local.set $refused (i32.add (local.get $refused)
      (i32.ne (call $fd_write (i32.const 1) (i32.const 65533) (i32.const 1) (i32.const 8)) (i32.const 0))))
    ;; So many vectors that their length wraps.
    (local.set $refused (i32.add (local.get $refused)
      (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)) (i32.const 0))))
    ;; A vector whose buffer wraps.
    (i32.store (i32.const 0) (i32.const -16))
    (i32.store (i32.const 4) (i32.const 64))
    (local.set $refused (i32.add (local.get $refused)
      (i32.ne (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 0))))
    ;; No such descriptor.
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 1))
    (local.set $refused (i32.add (local.get $refused)
      (i32.ne (call $fd_write (i32.const 77) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 0))))
    (call $proc_exit (local.get $refused))
    unreachable))

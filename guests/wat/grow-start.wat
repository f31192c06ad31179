;; Grows its memory until it is refused and traps then, as a program does whose allocator gives up (T-06).
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))

;; Asks for 4 GiB of memory to begin with: refused at instantiation (T-06).
(module
  (memory (export "memory") 65536)
  (func (export "_start")))

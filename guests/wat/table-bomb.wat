;; Asks for a table of four billion entries to begin with: refused at instantiation (T-06).
(module
  (table 4000000000 funcref)
  (func (export "_start")))

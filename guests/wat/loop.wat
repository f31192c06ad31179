;; Never ends; the deadline or the fuel has to end it (T-06).
(module (func (export "_start") (loop $again (br $again))))

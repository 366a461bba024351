// The modules that `import Apus` imports as well: views, macros, clusters and arrays.
@_exported public import ApusClient
@_exported public import ApusController
@_exported public import ApusFunctions
@_exported public import ApusWire
@_exported public import Pickle

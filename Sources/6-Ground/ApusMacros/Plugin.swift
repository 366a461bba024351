import SwiftCompilerPlugin
import SwiftSyntaxMacros

/// The program that the compiler runs to expand the macros that `ApusFunctions` declares.
@main
struct ApusMacrosPlugin: CompilerPlugin {
    let providingMacros: [any Macro.Type] = [RemoteMacro.self, RemoteClosureMacro.self, RefusedClosureMacro.self]
}

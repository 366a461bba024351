import ApusCore
import ApusEngine
import ApusWire
import Foundation
import NIOCore
import Pickle
import TestPython
import Testing

extension TestPython {
    /// Options without the user's own configuration, and without IPython unless a test needs it: plain Python starts sooner.
    static func options(plain: Bool = true) -> PythonOptions {
        var options = PythonOptions(interpreter: self.interpreter ?? "")
        options.isPlain = plain
        return options
    }
}

extension World {
    /// Runs the body with an engine that has a Python kernel.
    static func withPython(
        plain: Bool = true, _ change: (inout PythonOptions) -> Void = { _ in }, _ body: (World) async throws -> Void
    ) async throws {
        var python = TestPython.options(plain: plain)
        change(&python)
        try await self.with({ $0.python = python }, body)
    }

    /// Sends a cell and waits for its reply.
    @discardableResult
    func execute(_ code: String, silent: Bool = true, metadata: JSONObject = ["apus_quiet": true]) async throws -> Answer {
        try await self.send(code, silent: silent, metadata: metadata)
        return try await self.controller.next("mux")
    }

    /// Sends a cell; gives its id.
    @discardableResult
    func send(_ code: String, silent: Bool = true, metadata: JSONObject = ["apus_quiet": true]) async throws -> MessageID {
        try await self.controller.request(
            .executeRequest, to: self.uuid, metadata: metadata, content: ["code": .string(code), "silent": .bool(silent)])
    }

    /// The value of a Python expression.
    func value(_ expression: String) async throws -> PickleValue {
        try await self.controller.result(of: expression, to: self.uuid)
    }

    /// Sends a control request; gives the reply.
    func control(_ type: MessageType, _ content: JSONObject = [:]) async throws -> Answer {
        try await self.controller.request(
            type, to: self.uuid, by: "control", metadata: ["apus_quiet": true], content: content)
        return try await self.controller.next("control")
    }
}

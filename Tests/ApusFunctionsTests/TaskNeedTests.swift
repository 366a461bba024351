import ApusFunctions
import ApusWire
import NIOCore
import Pickle
import Testing

@Suite("What a task needs of its engine")
struct TaskNeedTests {
    private func request(_ payload: ApplyPayload) -> Message { self.request(payload.encode()) }

    private func request(_ buffers: [ByteBuffer]) -> Message {
        Message(
            identities: [], signature: ByteBuffer(),
            parts: MessageParts(
                header: MessageParts.emptyObject, parent: MessageParts.emptyObject, metadata: MessageParts.emptyObject,
                content: MessageParts.emptyObject), buffers: buffers)
    }

    private func need(
        _ message: Message, _ type: MessageType = .applyRequest, metadata: String = "{}"
    ) throws -> TaskNeed {
        var reader = TaskNeedReader()
        return reader.need(of: message, type, try RequestMetadata.ForScheduler(scanning: ByteBuffer(string: metadata)))
    }

    @Test("A call by name needs an engine that has the function, and any other call needs Python")
    func calls() throws {
        #expect(try self.need(self.request(ApplyPayload(function: .reference("square"), arguments: [3]))) == .name("square"))
        #expect(try self.need(self.request(ApplyPayload(function: PythonCall.pullFunction, arguments: ["x"]))) == .python)
        #expect(try self.need(self.request([ByteBuffer(string: "no pickle")])) == .python)
        #expect(try self.need(self.request([]), .executeRequest) == .python)
    }

    @Test("What ipyparallel's mapping function maps is what the call needs")
    func maps() throws {
        let mapped = ApplyPayload(function: PythonCall.mapFunction, arguments: [.reference("square"), [1, 2]])
        #expect(try self.need(self.request(mapped)) == .name("square"))
        let unknown = ApplyPayload(function: PythonCall.mapFunction, arguments: [PythonCall.pullFunction, [1, 2]])
        #expect(try self.need(self.request(unknown)) == .python)
    }

    @Test("A closure needs its build, and a limited task an engine that keeps limits")
    func metadata() throws {
        let call = self.request(ApplyPayload(function: .reference("square"), arguments: [3]))
        #expect(try self.need(call, metadata: #"{"apus_build": "b"}"#) == .build("b"))
        #expect(try self.need(call, metadata: #"{"apus_limit": 1}"#) == .limit(.name("square")))
        #expect(try self.need(call, metadata: #"{"apus_limit": 1, "apus_build": "b"}"#) == .limit(.build("b")))
    }

    @Test("A function that comes again with other arguments is decided again where its arguments decide")
    func again() throws {
        var reader = TaskNeedReader()
        let nothing = RequestMetadata.ForScheduler()
        for name in ["square", "cube"] {
            let mapped = ApplyPayload(function: PythonCall.mapFunction, arguments: [.reference(name), [1, 2]])
            for _ in 0..<2 { #expect(reader.need(of: self.request(mapped), .applyRequest, nothing) == .name(name)) }
        }
    }
}

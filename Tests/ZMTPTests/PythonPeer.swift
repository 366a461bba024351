import Foundation
import NIOCore
import TestPython

/// A Python process with pyzmq, which evaluates the test's code: libzmq, the reference, on the other end of a socket.
final class PythonPeer: Sendable {
    /// Reads lines of base64, each a piece of code whose variable `result` is the answer. Ends with its input.
    private static let script = """
        import base64, json, sys, time, zmq
        context = zmq.Context()
        names = dict(zmq=zmq, context=context, time=time)
        def bind(type, **options):
            s = connect(type, None, **options)
            return s, s.bind_to_random_port('tcp://127.0.0.1')
        def connect(type, port, **options):
            s = context.socket(getattr(zmq, type))
            s.linger = 0
            s.rcvtimeo = s.sndtimeo = 30000
            for name, value in options.items(): s.set(getattr(zmq, name.upper()), value)
            if port is not None: s.connect(f'tcp://127.0.0.1:{port}')
            return s
        names.update(bind=bind, connect=connect)
        for line in sys.stdin:
            try:
                names['result'] = None
                exec(base64.b64decode(line), names)
                answer = dict(value=repr(names['result']))
            except BaseException as error:
                answer = dict(error=repr(error))
            print(json.dumps(answer), flush=True)
        context.destroy(linger=0)
        """

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private struct Answer: Decodable {
        var value: String?
        var error: String?
    }

    private let process: Process
    private let input: FileHandle
    private let answers = Mailbox<String?>()
    private let hasEnded = Mailbox<Void>()

    private init() throws {
        let (process, toPython, fromPython) = (Process(), Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: try TestPython.path())
        process.arguments = ["-c", Self.script]
        process.standardInput = toPython
        process.standardOutput = fromPython
        let hasEnded = self.hasEnded
        process.terminationHandler = { _ in hasEnded.put(()) }
        try process.run()
        self.process = process
        self.input = toPython.fileHandleForWriting
        let (answers, output) = (self.answers, fromPython.fileHandleForReading)
        Thread.detachNewThread {
            var rest = Data()
            while true {
                let data = output.availableData
                if data.isEmpty { break }
                rest += data
                while let end = rest.firstIndex(of: 0x0A) {
                    answers.put(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                    rest = Data(rest[(end + 1)...])
                }
            }
            answers.put(nil)
        }
    }

    /// Runs the body beside a new process, which is gone when this returns.
    static func with(_ body: (PythonPeer) async throws -> Void) async throws {
        let peer = try PythonPeer()
        do {
            try await body(peer)
            await peer.kill()
        } catch {
            await peer.kill()
            throw error
        }
    }

    /// Runs code and returns the `repr` of the variable `result`.
    @discardableResult
    func run(_ code: String) async throws -> String {
        try self.input.write(contentsOf: Data(code.utf8).base64EncodedData() + [0x0A])
        guard let line = try await self.answers.next() else { throw Failure(description: "Python is gone") }
        let answer = try JSONDecoder().decode(Answer.self, from: Data(line.utf8))
        if let error = answer.error { throw Failure(description: "\(error) in \(code)") }
        return answer.value ?? ""
    }

    /// Evaluates an expression.
    func evaluate(_ expression: String) async throws -> String {
        try await self.run("result = \(expression)")
    }

    /// Binds a new socket, called `name` from then on, to a free port.
    func bind(_ name: String, _ type: String, _ options: String = "") async throws -> Int {
        try await Int(self.run("\(name), result = bind('\(type)'\(options.isEmpty ? "" : ", " + options))"))!
    }

    /// Connects a new socket, called `name` from then on.
    func connect(_ name: String, _ type: String, _ port: Int, _ options: String = "") async throws {
        try await self.run("\(name) = connect('\(type)', \(port)\(options.isEmpty ? "" : ", " + options))")
    }

    /// Kills the process as a crash would, and waits for its end.
    func kill() async {
        guard self.process.isRunning else { return }
        // Not SIGTERM: the process may have inherited a mask that blocks it.
        Foundation.kill(self.process.processIdentifier, SIGKILL)
        _ = try? await self.hasEnded.next()
    }
}

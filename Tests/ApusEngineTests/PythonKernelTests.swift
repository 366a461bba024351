import ApusCore
import ApusEngine
import ApusFunctions
import ApusWire
import Foundation
import NIOCore
import Pickle
import TestPython
import Testing

@Suite("An engine with a Python kernel", .enabled(if: TestPython.exists), .timeLimit(.minutes(2)))
struct PythonKernelTests {
    @Test("The engine says that it runs Python, and is registered before Python is up")
    func registers() async throws {
        try await World.withStarted({ $0.python = TestPython.options() }) { world in
            let request = try await world.accept()
            #expect(request.content["apus"]?["python"] == true)
        }
    }

    @Test("A cell's output lies between busy and idle, and its value is shown")
    func cell() async throws {
        try await World.withPython { world in
            let id = try await world.send("print('hello')\n6 * 7", silent: false, metadata: [:])
            let output = try await world.controller.output(of: id)
            #expect(output == ["status busy", "execute_input", "stdout hello\n", "execute_result", "status idle"])
            let reply = try await world.controller.next("mux")
            #expect(reply.type == .executeReply)
            #expect(reply.content["status"] == "ok")
            #expect(reply.content["execution_count"] == 1)
            #expect(reply.metadata["status"] == "ok")
            #expect(reply.metadata["dependencies_met"] == true)
        }
    }

    @Test("A function is called by the name that an earlier cell gave it")
    func call() async throws {
        try await World.withPython { world in
            try await world.execute("def scaled(x, factor=2): return x * factor")
            #expect(try await world.controller.result(of: "scaled", .int(21), to: world.uuid) == .int(42))
            try await world.controller.apply(
                .global(module: "math", name: "sqrt"), .float(2), to: world.uuid, metadata: ["apus_quiet": true])
            #expect(try await world.controller.next("mux").value == .float(2.0.squareRoot()))
        }
    }

    @Test("A map request is one message and a list of results")
    func map() async throws {
        try await World.withPython { world in
            let result = try await world.controller.result(
                of: "lambda x: x * x", .list([.int(1), .int(2), .int(3)]), to: world.uuid,
                metadata: ["apus_quiet": true, "apus_map": true])
            #expect(result == .list([.int(1), .int(4), .int(9)]))
        }
    }

    @Test("Large values cross whole, both ways, before Python is up and after its crash as well")
    func largeAfterCrash() async throws {
        try await World.withPython { world in
            let values = PickleValue.bytes(ByteBuffer(bytes: (0..<(1 << 22)).map { UInt8(truncatingIfNeeded: $0 &* 31) }))
            let check = "lambda v: len(v) == 1 << 22 and all(v[i] == i * 31 % 256 for i in range(0, len(v), 4097))"
            #expect(try await world.controller.result(of: check, values, to: world.uuid) == .bool(true))
            #expect(try await world.controller.result(of: "lambda v: v", values, to: world.uuid) == values)
            try await world.execute("import os, signal")
            #expect(try await world.execute("os.kill(os.getpid(), signal.SIGKILL)").content["status"] == "error")
            #expect(try await world.controller.result(of: "lambda v: v", values, to: world.uuid) == values)
        }
    }

    @Test("Async functions are awaited, and so is a cell's top level")
    func asynchronous() async throws {
        try await World.withPython { world in
            try await world.execute("import asyncio\nasync def later(x):\n    await asyncio.sleep(0)\n    return x + 1")
            #expect(try await world.controller.result(of: "later", .int(1), to: world.uuid) == .int(2))
            #expect(try await world.execute("y = await later(2)").content["status"] == "ok")
            #expect(try await world.value("lambda: y") == .int(3))
        }
    }

    @Test("An error is published, and the reply has its name, its words and where it was")
    func error() async throws {
        try await World.withPython { world in
            let id = try await world.send("1 / 0", metadata: [:])
            #expect(try await world.controller.output(of: id) == ["status busy", "error ZeroDivisionError", "status idle"])
            let reply = try await world.controller.next("mux")
            #expect(reply.content["ename"] == "ZeroDivisionError")
            #expect(reply.content["evalue"] == "division by zero")
            #expect(reply.content["engine_info"]?["engine_id"] == 3)
            #expect(reply.content["engine_info"]?["method"] == "execute")
            #expect(reply.metadata["status"] == "error")
        }
    }

    @Test("UnmetDependency sends a task on to another engine")
    func dependency() async throws {
        try await World.withPython { world in
            try await world.execute("class UnmetDependency(Exception): pass\ndef unwilling(): raise UnmetDependency()")
            try await world.controller.apply(.reference("unwilling"), to: world.uuid, metadata: ["apus_quiet": true])
            #expect(try await world.controller.next("mux").metadata["dependencies_met"] == false)
        }
    }

    @Test("Cells queued behind a failed one are aborted; calls are not")
    func stopOnError() async throws {
        try await World.withPython { world in
            let gate = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID())").path
            defer { try? FileManager.default.removeItem(atPath: gate) }
            try await world.execute("import os, time")
            try await world.send("while not os.path.exists('\(gate)'): time.sleep(0.01)\n1 / 0", silent: false)
            try await world.send("x = 1")
            try await world.controller.apply(.reference("lambda: 5"), to: world.uuid, metadata: ["apus_quiet": true])
            // When this is answered, the three before it have reached the engine.
            _ = try await world.control(MessageType(rawValue: "kernel_info_request"))
            #expect(FileManager.default.createFile(atPath: gate, contents: nil))
            #expect(try await world.controller.next("mux").content["ename"] == "ZeroDivisionError")
            let aborted = try await world.controller.next("mux")
            #expect(aborted.type == .executeReply)
            #expect(aborted.content["status"] == "aborted")
            #expect(try await world.controller.next("mux").value == .int(5))
        }
    }

    @Test("What is written to the descriptors themselves is output too")
    func descriptors() async throws {
        try await World.withPython { world in
            // The kernel's own descriptors are this process's in a test; only the counting is seen here.
            let reply = try await world.execute("import sys\nprint('a')\nprint('b', file=sys.stderr)")
            #expect(reply.metadata["apus_outputs"] == 2)
        }
    }

    @Test("Clear empties the namespace, and waits for no task")
    func clear() async throws {
        try await World.withPython { world in
            try await world.execute("x = 1")
            #expect(try await world.control(.clearRequest).content["status"] == "ok")
            #expect(try await world.execute("x").content["ename"] == "NameError")
        }
    }

    // MARK: Nothing is stuck

    @Test("SIGINT interrupts the task, and the kernel keeps its namespace")
    func interrupt() async throws {
        try await World.withPython { world in
            try await world.execute("x = 7")
            try await world.send("print('on', flush=True)\nimport time\ntime.sleep(60)", metadata: [:])
            _ = try await world.controller.output(until: .stream)
            let answer = try await world.control(.signalRequest, ["sig": "SIGINT"])
            #expect(answer.content["apus_interrupted"] == true)
            #expect(try await world.controller.next("mux").content["ename"] == "KeyboardInterrupt")
            #expect(try await world.value("lambda: x") == .int(7))
        }
    }

    @Test("An interrupt that comes before Python is up reaches the task that waits for it")
    func earlyInterrupt() async throws {
        try await World.withPython { world in
            try await world.send("import time\ntime.sleep(60)", metadata: [:])
            _ = try await world.controller.output(until: .status)
            _ = try await world.control(.signalRequest, ["sig": "SIGINT"])
            #expect(try await world.controller.next("mux").content["ename"] == "KeyboardInterrupt")
        }
    }

    @Test("The engine beats while Python holds its lock")
    func heartbeat() async throws {
        try await World.withPython { world in
            try await world.send("print('on', flush=True)\nsum(range(10 ** 13))", metadata: [:])
            _ = try await world.controller.output(until: .stream)
            #expect(try await world.beat("2.5") == "2.5")
        }
    }

    @Test("A task past its limit is interrupted and says so")
    func limit() async throws {
        try await World.withPython { world in
            let reply = try await world.execute("import time\ntime.sleep(60)", metadata: ["apus_quiet": true, "apus_limit": 0.2])
            #expect(reply.content["ename"] == "KeyboardInterrupt")
            #expect(reply.content["evalue"]?.string?.contains("longer than its limit of 0.2 s") == true)
        }
    }

    @Test("A task within its limit is as any other")
    func withinLimit() async throws {
        try await World.withPython { world in
            let reply = try await world.execute("x = 1", metadata: ["apus_quiet": true, "apus_limit": 30])
            #expect(reply.content["status"] == "ok")
            #expect(try await world.value("lambda: x") == .int(1))
        }
    }

    @Test("Tasks that end just when their limits pass leave those behind them alone")
    func endsAtLimit() async throws {
        try await World.withPython { world in
            try await world.execute("import time")
            var interrupted = 0
            for number in 0..<100 {
                // The task's time, from some milliseconds before the limit to some after it.
                let time = 0.02 + 0.001 * Double(number % 11 - 5)
                try await world.send("time.sleep(\(time))", metadata: ["apus_quiet": true, "apus_limit": 0.02])
                try await world.send("for _ in range(10_000): pass\ntime.sleep(0.003)")
                let limited = try await world.controller.next("mux")
                #expect(
                    limited.content["status"] == "ok" || limited.content["ename"] == "KeyboardInterrupt", "\(limited.content)")
                if limited.content["status"] != "ok" { interrupted += 1 }
                let next = try await world.controller.next("mux")
                #expect(next.content["status"] == "ok", "\(next.content)")
            }
            // Otherwise the times were not near the limit.
            #expect((1..<100).contains(interrupted))
        }
    }

    @Test("An interrupt hits the task that runs or none, however short tasks are, and none is left without an answer")
    func interruptsBetween() async throws {
        try await World.withPython { world in
            try await world.execute("import time\nkept = 1")
            for number in 0..<100 {
                try await world.send("time.sleep(\(0.0005 * Double(number % 7)))")
                let isInterrupted = try await world.control(.signalRequest, ["sig": "SIGINT"]).content["apus_interrupted"]?.bool
                let reply = try await world.controller.next("mux")
                #expect(reply.content["status"] == "ok" || isInterrupted == true, "\(reply.content)")
                #expect(reply.content["status"] == "ok" || reply.content["ename"] == "KeyboardInterrupt", "\(reply.content)")
                #expect(try await world.execute("kept").content["status"] == "ok")
            }
        }
    }

    @Test("A task that cannot be interrupted is killed after its limit, and the next one finds a new kernel")
    func kill() async throws {
        try await World.withPython({ $0.grace = 0.2 }) { world in
            try await world.execute("x = 1")
            let reply = try await world.execute("sum(range(10 ** 13))", metadata: ["apus_quiet": true, "apus_limit": 0.2])
            #expect(reply.content["ename"] == "EngineError")
            #expect(reply.content["evalue"]?.string?.contains("did not stop within 0.2 s") == true)
            #expect(try await world.execute("x").content["ename"] == "NameError")
        }
    }

    @Test(
        "What kills Python ends its task with an EngineError that says what happened, and no other",
        arguments: [
            ("import ctypes; ctypes.string_at(0)", "a segmentation fault (SIGSEGV)"),
            ("import os; os._exit(3)", "it exited with status 3"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it was killed (SIGKILL)"),
            ("import os; os.abort()", "it aborted (SIGABRT)"),
        ])
    func death(code: String, why: String) async throws {
        try await World.withPython { world in
            try await world.send(code)
            try await world.send("survivor = 1")
            let reply = try await world.controller.next("mux")
            #expect(reply.content["ename"] == "EngineError")
            #expect(reply.content["evalue"]?.string?.contains(why) == true, "\(reply.content)")
            #expect(try await world.controller.next("mux").content["status"] == "ok")
            #expect(try await world.value("lambda: survivor") == .int(1))
        }
    }

    @Test("An engine that is told so ends with its kernel")
    func endsWithKernel() async throws {
        try await World.withPython({ $0.restarts = false }) { world in
            let reply = try await world.execute("import os; os._exit(3)")
            #expect(reply.content["ename"] == "EngineError")
            guard case .kernelLost = await world.running.value else {
                Issue.record("the engine went on")
                return
            }
        }
    }

    @Test("A Python that cannot start ends the engine, with the reason")
    func startUpCrash() async throws {
        try await World.withStarted({
            $0.python = TestPython.options()
            $0.python?.startupLines = ["import os; os._exit(1)"]
        }) { world in
            guard case .kernelLost(let why) = await world.running.value else {
                Issue.record("the engine went on")
                return
            }
            #expect(why.contains("before it was ready: it exited with status 1"))
        }
    }

    @Test("Shutdown with restart gives a new kernel and keeps the engine")
    func restart() async throws {
        try await World.withPython { world in
            try await world.execute("x = 1")
            let reply = try await world.control(.shutdownRequest, ["restart": true])
            #expect(reply.content == ["status": "ok", "restart": true])
            #expect(try await world.execute("x").content["ename"] == "NameError")
        }
    }

    @Test("Shutdown lets Python finish: what is registered to run at its exit runs")
    func shutdown() async throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID()).txt").path
        try await World.withPython { world in
            try await world.execute("import atexit\natexit.register(lambda: open('\(file)', 'w').write('done'))")
            _ = try await world.control(.shutdownRequest, ["restart": false])
            #expect(await world.running.value == .shutDown)
            #expect(try String(contentsOfFile: file, encoding: .utf8) == "done")
        }
        try? FileManager.default.removeItem(atPath: file)
    }

    @Test("exit() in a cell answers it and ends the engine, always: what waits behind it is not begun")
    func exit() async throws {
        // The last leaves a thread behind, for which Python would wait.
        for code in [
            "exit()", "x = 1\nquit()", "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nexit()",
        ] {
            try await World.withPython { world in
                try await world.send(code)
                try await world.send("x = 1")
                #expect(try await world.controller.next("mux").content["status"] == "ok")
                #expect(await world.running.value == .quit)
                #expect(!world.controller.hasFrames("mux"))
            }
        }
    }

    @Test("A start that fails after one that did not is tried again after a pause, and what waits is run")
    func failingRestart() async throws {
        let marker = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID())").path
        let start = "import os\nif os.path.exists('\(marker)'): os.remove('\(marker)'); os._exit(1)"
        try await World.withPython({ $0.startupLines = [start] }) { world in
            let reply = try await world.execute("import os; open('\(marker)', 'w').close(); os._exit(3)")
            #expect(reply.content["ename"] == "EngineError")
            #expect(try await world.execute("x = 1").content["status"] == "ok")
            #expect(!FileManager.default.fileExists(atPath: marker))
        }
    }

    @Test("User code that writes to the kernel's own descriptor ends its task and the interpreter, and not the engine")
    func tornFrame() async throws {
        try await World.withPython { world in
            let reply = try await world.execute("import os; os.write(3, b'x' * 100)")
            #expect(reply.content["ename"] == "EngineError")
            #expect(reply.content["evalue"]?.string?.contains("descriptor 3") == true)
            #expect(try await world.execute("x = 1").content["status"] == "ok")
        }
    }

    @Test("A kernel that reads nothing holds up no heartbeat and no control request")
    func stoppedKernel() async throws {
        try await World.withPython { world in
            try await world.execute("x = 1")
            #expect(try await world.control(.signalRequest, ["sig": .int(Int(SIGSTOP))]).content["status"] == "ok")
            // More than the socket holds, in parts that are written to it.
            let part = ByteBuffer(repeating: 35, count: 1 << 19)
            try await world.controller.request(
                .applyRequest, to: world.uuid, metadata: ["apus_quiet": true], buffers: Array(repeating: part, count: 40))
            for _ in 0..<3 { #expect(try await world.control(.clearRequest).content["status"] == "ok") }
            #expect(try await world.beat("2.5") == "2.5")
            #expect(try await world.control(.signalRequest, ["sig": .int(Int(SIGCONT))]).content["status"] == "ok")
            #expect(try await world.controller.next("mux").content["status"] == "error")
            #expect(try await world.execute("x").content["ename"] == "NameError")
        }
    }

    // MARK: Between requests

    @Test("A process that a task forks and that returns takes no request")
    func fork() async throws {
        try await World.withPython { world in
            try await world.execute("import os\ndef forks(): return 'parent' if os.fork() else 'child'")
            #expect(try await world.value("lambda: forks()") == .string("parent"))
            for number in 0..<10 { #expect(try await world.value("lambda: \(number)") == .int(number)) }
        }
    }

    @Test("A task of asyncio goes on between requests, and what it prints belongs to the request that started it")
    func backgroundTask() async throws {
        try await World.withPython { world in
            try await world.execute("import asyncio\nasync def later():\n    await gate.wait()\n    print('later')")
            let id = try await world.send("gate = asyncio.Event()\ntask = asyncio.ensure_future(later())")
            _ = try await world.controller.next("mux")
            let reply = try await world.execute("print('now')\ngate.set()")
            #expect(reply.metadata["apus_outputs"] == 1)
            let outputs = [try await world.controller.next("iopub"), try await world.controller.next("iopub")]
            #expect(outputs.map(\.line) == ["stdout now\n", "stdout later\n"])
            #expect(outputs.last?.parent == id)
        }
    }

    @Test("A comm's messages are published under its own topic, and what comes for one is not replied")
    func comms() async throws {
        try await World.withPython(plain: false) { world in
            let code = """
                from comm import create_comm
                c = create_comm(target_name="there", data={"x": 1}, comm_id="abc")
                c.on_msg(lambda message: c.send(message["content"]["data"], buffers=message["buffers"]))
                """
            let id = try await world.send(code)
            #expect(try await world.controller.next("mux").content["status"] == "ok")
            let opened = try await world.controller.next("iopub")
            #expect(opened.identities == ["comm-abc"])
            #expect(opened.type == .commOpen)
            #expect(opened.parent == id)
            #expect(opened.metadata["engine"] == .string(world.uuid.text))
            #expect(opened.content["data"] == ["x": 1])
            let sent = try await world.controller.request(
                .commMessage, to: world.uuid, content: ["comm_id": "abc", "data": 5], buffers: [ByteBuffer(string: "bytes")])
            let output = try await world.controller.output(until: .commMessage)
            #expect(output.last?.parent == sent)
            #expect(output.last?.content["data"] == 5)
            #expect(output.last?.message.buffers == [ByteBuffer(string: "bytes")])
            #expect(try await world.execute("x = 1").content["status"] == "ok")
        }
    }

    @Test("An engine that is stopped while Python starts leaves nothing waiting")
    func stopAtStart() async throws {
        try await World.withPython { world in
            try await world.send("x = 1")
            world.engine.stop()
            #expect(await world.running.value == .cancelled)
        }
    }

    // MARK: Large and many

    @Test("Large values cross whole, in and out")
    func large() async throws {
        try await World.withPython { world in
            let bytes = ByteBuffer(repeating: 7, count: 20_000_000)
            try await world.controller.apply(
                .reference("lambda b: (len(b), b + b'x')"), .bytes(bytes), to: world.uuid, metadata: ["apus_quiet": true])
            guard case .tuple(let elements) = try await world.controller.next("mux").value else {
                Issue.record("no tuple")
                return
            }
            #expect(elements.first == .int(20_000_000))
            guard case .bytes(let result)? = elements.last else {
                Issue.record("no bytes")
                return
            }
            #expect(result.readableBytes == 20_000_001)
        }
    }

    @Test("IPython's magics run where it is installed")
    func magics() async throws {
        try await World.withPython(plain: false) { world in
            let reply = try await world.execute("%time x = 1\nassert get_ipython().kernel.engine_id == 3")
            #expect(
                reply.content["status"] == "ok" || reply.content["evalue"]?.string?.contains("%time") == true, "\(reply.content)")
        }
    }

    @Test("On an engine with Python a request that names a Swift function still runs it")
    func mixed() async throws {
        try await World.withPython { world in
            let swift = try await world.controller.result(of: "squareOf", .float(3), to: world.uuid)
            #expect(swift == .float(9))
            #expect(try await world.value("lambda: 9") == .int(9))
        }
    }
}

@Suite("The interpreter that an engine runs")
struct PythonInterpreterTests {
    @Test("A name that is nowhere is an error that says so")
    func missing() {
        #expect(throws: WireError.self) { try PythonOptions.findInterpreter("/nowhere/python", environment: [:]) }
        #expect(throws: WireError.self) { try PythonOptions.findInterpreter(environment: ["PATH": "/nowhere"]) }
    }

    @Test("The active environment's comes before the path's", .enabled(if: TestPython.exists))
    func active() throws {
        let environment = URL(fileURLWithPath: try TestPython.path()).deletingLastPathComponent().deletingLastPathComponent()
            .path
        #expect(
            try PythonOptions.findInterpreter(environment: ["VIRTUAL_ENV": environment, "PATH": "/usr/bin"])
                == environment + "/bin/python")
    }
}

import ApusWire
import Foundation
import Glibc
import Testing

@testable import ApusLaunchers

@Suite("A process on this machine")
struct LocalProcessTests {
    @Test("A process runs with our environment and its own, and its output goes to the end of its log")
    func runs() async throws {
        let folder = try TemporaryFolder()
        let log = folder.path + "/log/one.log"
        for greeting in ["hello", "again"] {
            let process = try await LocalProcess.start(
                shell(
                    "echo $GREETING; test -n \"$PATH\"; read -r line; echo read $?; echo bad >&2; exit 3", output: .log(log),
                    environment: ["GREETING": greeting]))
            // The log keeps the lines of earlier processes; an exit has those of its own process only.
            let exit = await process.wait()
            #expect(exit == ProcessExit(.code(3), lastLines: [greeting, "read 1", "bad"]))
            #expect(process.exit == exit)
        }
        #expect(folder.text("log/one.log") == "hello\nread 1\nbad\nagain\nread 1\nbad\n")
    }

    @Test("A crash is told with its signal and the last lines of the log")
    func crash() async throws {
        let folder = try TemporaryFolder()
        let process = try await LocalProcess.start(
            shell("for i in $(seq 30); do echo line $i; done; kill -SEGV $$", output: .log(folder.path + "/log")))
        let exit = try #require(await process.wait())
        #expect(exit.cause == .signal(SIGSEGV))
        #expect(
            "engine 2 \(ProcessExit(exit.cause, lastLines: ["line 29", "line 30"]))"
                == "engine 2 ended with signal 11 (Segmentation fault); last lines:\n    line 29\n    line 30")
        #expect(exit.lastLines == (19...30).map { "line \($0)" })
    }

    @Test("The end of a long log is cut at a line")
    func longLog() throws {
        let folder = try TemporaryFolder()
        let lines = (0..<9).map { String(repeating: "\($0)", count: 1500) }
        try (lines.joined(separator: "\n") + "\n").write(toFile: folder.path + "/log", atomically: true, encoding: .utf8)
        #expect(LogTail.lines(of: folder.path + "/log") == Array(lines.suffix(5)))
        #expect(LogTail.lines(of: folder.path + "/log", from: 13_502) == [String(lines[8].suffix(6))])
    }

    @Test(
        "A program that cannot be started is reported at once",
        arguments: [
            ("/no/such/program", "/no/such/program cannot be started: No such file or directory"),
            ("/etc/passwd", "/etc/passwd cannot be started: Permission denied"),
            ("no-such-program", "no-such-program cannot be started: it is in no folder of PATH (/bin)"),
        ])
    func notStarted(program: String, message: String) async throws {
        let error = await #expect(throws: LauncherError.self) {
            try await LocalProcess.start(LocalCommand(program, environment: ["PATH": "/bin"]))
        }
        #expect(error?.code == .notStarted)
        #expect(error?.description == message)
    }

    @Test("A process leads a session of its own, under the id that we know", arguments: [ParentWatch.process, .watchdog, .none])
    func session(watch: ParentWatch) async throws {
        let folder = try TemporaryFolder()
        let process = try await LocalProcess.start(
            shell("echo $$; exec sleep 100", output: .log(folder.path + "/log"), parentWatch: watch))
        #expect(try await eventually { folder.text("log") == "\(process.processID)\n" })
        #expect(getpgid(process.processID) == process.processID)
        #expect(getsid(process.processID) == process.processID)
        await process.stop()
    }

    @Test("A process that is stopped gets SIGTERM first; stopping again changes nothing")
    func stop() async throws {
        let process = try await LocalProcess.start(LocalCommand("sleep", arguments: ["100"]))
        async let first = process.stop()
        async let second = process.stop()
        #expect(await [first, second].map(\.cause) == [.signal(SIGTERM), .signal(SIGTERM)])
        #expect(await process.stop().cause == .signal(SIGTERM))
        process.signal(SIGKILL)
        #expect(process.exit?.cause == .signal(SIGTERM))
    }

    @Test("A process that ignores SIGTERM is killed after the grace, even when the caller was cancelled")
    func stubborn() async throws {
        let folder = try TemporaryFolder()
        let process = try await LocalProcess.start(
            shell(
                "trap '' TERM; echo ready; while :; do sleep 0.1; done", output: .log(folder.path + "/log"),
                stopGrace: .milliseconds(200)))
        #expect(try await eventually { folder.text("log") == "ready\n" })
        let stopping = Task { await process.stop() }
        stopping.cancel()
        #expect(await stopping.value == ProcessExit(.signal(SIGKILL), lastLines: ["ready"]))
    }

    @Test("A process and its parent send each other lines, and lines come before the end", .timeLimit(.minutes(1)))
    func channel() async throws {
        let process = try await LocalProcess.start(
            shell("while read -r line <&3; do echo \"got $line\" >&3; done; echo over >&3; exit 4", parentWatch: .channel))
        let channel = try #require(process.channel)
        for line in ["one", "two"] { channel.send(line) }
        var lines = channel.lines.makeAsyncIterator()
        #expect(await lines.next() == "got one")
        #expect(await lines.next() == "got two")
        process.signal(SIGKILL)
        #expect(await process.wait()?.cause == .signal(SIGKILL))
        #expect(await lines.next() == nil)
        // Nobody reads this line, and this process lives on.
        channel.send("three")
        channel.flush()
        channel.end()
    }

    @Test("Signals reach the program")
    func signals() async throws {
        let folder = try TemporaryFolder()
        let process = try await LocalProcess.start(
            shell(
                "trap 'echo heard; exit 7' USR1; echo ready; while :; do sleep 0.01; done", output: .log(folder.path + "/log")))
        #expect(try await eventually { folder.text("log") == "ready\n" })
        process.signal(SIGUSR1)
        #expect(await process.wait()?.cause == .code(7))
    }

    @Test("Cancelling the wait leaves the process alone")
    func cancelledWait() async throws {
        let process = try await LocalProcess.start(LocalCommand("sleep", arguments: ["100"]))
        let waiting = Task { await process.wait() }
        waiting.cancel()
        #expect(await waiting.value == nil)
        #expect(process.exit == nil)
        await process.stop()
    }

    @Test("Processes that a program has left running in its group end with it")
    func sweepsGroup() async throws {
        let folder = try TemporaryFolder()
        let process = try await LocalProcess.start(
            shell("sleep 100 & echo $!; exit 0", output: .log(folder.path + "/log")))
        let left = try #require(await process.wait()?.lastLines.first.flatMap { Int32($0) })
        #expect(try await eventually { !ProcessTable.exists(left) })
    }

    @Test(
        "When the parent is killed, nothing of its children is left within a second", arguments: [ParentWatch.process, .watchdog])
    func parentKilled(watch: ParentWatch) async throws {
        let folder = try TemporaryFolder()
        let list = folder.path + "/pids"
        let script =
            switch watch {
            // Ends with its parent as an engine of Apus does.
            case .process: "sh -c 'kill -STOP $$' & echo $$ >> \(list); eval \"read -r _ <&$APUS_PARENT_FD\"; kill -KILL $!"
            // Does not watch its parent, ignores signals, and has a child.
            default: "trap '' TERM HUP INT; sleep 100 & echo $$ $! >> \(list); while :; do sleep 1; done"
            }
        let result = await #expect(processExitsWith: .signal(SIGKILL)) {
            [script = script as String, list = list as String, isProcess = (watch == .process) as Bool] in
            for _ in 0..<3 {
                _ = try await LocalProcess.start(shell(script, parentWatch: isProcess ? .process : .watchdog))
            }
            _ = try await eventually {
                (try? String(contentsOfFile: list, encoding: .utf8))?.split(separator: "\n").count == 3
            }
            kill(getpid(), SIGKILL)
        }
        #expect(result != nil)
        let children = folder.text("pids").split { $0.isWhitespace }.compactMap { Int32($0) }
        #expect(children.count == (watch == .process ? 3 : 6))
        #expect(try await eventually(within: .seconds(1)) { !children.contains(where: ProcessTable.exists) })
    }

    @Test("A daemon outlives its parent")
    func daemon() async throws {
        let folder = try TemporaryFolder()
        let list = folder.path + "/pids"
        await #expect(processExitsWith: .signal(SIGKILL)) { [list = list as String] in
            let process = try await LocalProcess.start(LocalCommand("sleep", arguments: ["100"], parentWatch: .none))
            try "\(process.processID)".write(toFile: list, atomically: true, encoding: .utf8)
            kill(getpid(), SIGKILL)
        }
        let daemon = try #require(Int32(folder.text("pids")))
        #expect(ProcessTable.exists(daemon))
        kill(daemon, SIGKILL)
    }
}

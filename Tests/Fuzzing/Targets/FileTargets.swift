import ApusCore
import ApusLaunchers
import ApusWire
import NIOCore

@testable import ApusSettings

extension FuzzTarget {
    /// A client's or an engine's connection file.
    static let connectionFiles = FuzzTarget(
        "connection-files", of: ["ApusWire"], longestInput: 700,
        seeds: [
            #"{"ssh": "", "interface": "tcp://127.0.0.1", "registration": 10101, "control": 1, "mux": 2, "hb_ping": 3, "hb_pong": 4, "task": 5, "iopub": 6, "broadcast": [7, 8], "key": "k", "signature_scheme": "hmac-sha256", "location": "host", "pack": "json", "unpack": "json", "curve_serverkey": null}"#,
            #"{"interface": "tcp://*", "registration": 1, "control": 2, "mux": 3, "task": 4, "task_scheme": "leastload", "iopub": 5, "notification": 6, "broadcast": 7, "key": "", "pack": "orjson"}"#,
        ].map { ByteBuffer(string: $0) },
        words: [
            "interface", "tcp://", "registration", "control", "mux", "task", "iopub", "notification", "broadcast", "hb_ping",
            "hb_pong",
            "signature_scheme", "hmac-md5", "curve_serverkey", "65536", "-1", "1e300", "null",
        ]
    ) { input in
        guard let json = try? JSONValue(parsing: input) else { return }
        if let client = try? ClientConnectionInfo(json) {
            try require(try ClientConnectionInfo(client.json) == client, "a client's file that is written is read as it was")
            _ = try? Signer(key: client.common.key, scheme: client.common.signatureScheme)
        }
        if let engine = try? EngineConnectionInfo(json) {
            try require(try EngineConnectionInfo(engine.json) == engine, "an engine's file that is written is read as it was")
        }
    }

    /// A cluster file, ours or Python's, and the file of a controller's engines.
    static let clusterFiles = FuzzTarget(
        "cluster-files", of: ["ApusLaunchers", "ApusWire"], longestInput: 700,
        seeds: [
            #"{"cluster": {"cluster_id": "c", "profile_dir": "/p", "n": 2, "controller_args": ["-x"], "delay": 1.5, "class": "k"}, "controller": {"class": "local", "state": {"pid": 12, "output_file": "o", "state": "running"}}, "engines": {"class": "local", "sets": {"s": {"n": 2, "pid": -1, "engines": {"0": {"pid": 3, "n": 1}, "1": {"pid": 4}}}}}}"#,
            #"{"cluster": {"cluster_id": "", "profile_dir": "/p", "n": null}, "engines": {"sets": {"s": {"n": 3, "pid": 7, "engines": {"host": 2}}}}}"#,
            #"{"engines": {"0": "uuid-a", "1": "uuid-b"}, "next_id": 2, "apus": {"kinds": [{"r": 1}], "kind_of": {"uuid-a": 0}}}"#,
        ].map { ByteBuffer(string: $0) },
        words: [
            "cluster", "cluster_id", "profile_dir", "controller", "controller_args", "controller_ip", "controller_location",
            "delay", "state",
            "engines", "sets", "pid", "output_file", "next_id", "apus", "kinds", "kind_of", "4294967296", "-2147483648",
        ]
    ) { input in
        guard let json = try? JSONValue(parsing: input) else { return }
        if let file = try? ClusterFile(json) {
            let again = try ClusterFile(file.json)
            try require(again.json == file.json, "a cluster file that is written is read as it was")
            try require(file.processes.allSatisfy { $0.processID ?? 0 > 0 }, "a process has an id that a signal may be sent to")
            _ = file.path
        }
        if let engines = EngineRegistry.State(json) {
            try require(EngineRegistry.State(engines.json) == engines, "the file of engines that is written is read as it was")
        }
    }

    /// An IPython configuration file, as a program in Python, as JSON, and each line as a value on a command line.
    static let traits = FuzzTarget(
        "traits", of: ["ApusSettings", "ApusWire"], longestInput: 200,
        seeds: [
            "c = get_config()\nc.IPController.ip = '0.0.0.0'  # all\n", "c.HubFactory.ports = [\n  1, 2,\n]\n",
            "c.A.b += ('x', 2.5)",
            "c.A.b.extend([0x1f, 0o7, 0b1, -1_000])", "c.A.b.append({'k': None, \"l\": True})",
            "c.A.b = r'\\n' b'x' \"y\" '''z\n'''",
            #"{"A": {"b": [1, 2], "c": "x"}}"#, "10101-10110,10115", "1e300", "(1,)", "True",
        ].map { ByteBuffer(string: $0) },
        words: [
            "c.A.b = ", "c.A.b.append(", "c.A.b.extend([", "+= [", "'''", "\"\"\"", "True", "None", "0x", "1e", "\\\n", "b'",
            "10-20,",
        ]
    ) { input in
        let text = String(buffer: input)
        let file = TraitsFile(python: text, name: "f")
        for assignment in file.assignments {
            try require(!assignment.className.isEmpty && !assignment.trait.isEmpty, "what is assigned has a class and a name")
            try readAll(assignment)
        }
        for assignment in TraitsFile(json: text, name: "f").assignments { try readAll(assignment) }
        if let value = PythonLiteral.value(of: text) { _ = value.description }
        try readAll(TraitAssignment("A", "b", .text(text), source: "s"))
    }

    /// A command line of a controller and of an engine, a line for each argument; an empty line ends it, and the rest is the configuration
    /// file.
    static let settings = FuzzTarget(
        "settings", of: ["ApusSettings"], longestInput: 300,
        seeds: [
            "--ip=*\n--ping\n1000\n--hwm=1\n--sqlitedb\n--no-secure", "--IPController.ports=1-3,5\n--Session.key=k\n--debug",
            "--reuse\n\nc.HeartMonitor.period = 3000\nc.TaskScheduler.hwm = 2\nc.DictDB.record_limit = 10\nc.Session.packer = 'json'",
            "--registration_timeout=1\n--IPController.broadcast_scheduler_depth=3\n--profile-dir=/p\n--location=h\n\nc.SQLiteDB.filename = 'x'",
            "--c=import numpy\n--resources=gpu=1,memory=64\n--mpi\n--IPEngine.id=3\n--on-crash=exit\n\nc.IPEngine.timeout = 2.5",
            "--log-level=DEBUG\n--scheme=lru\n--restore\n--HeartMonitor.max_heartmonitor_misses=4\n--config=/f",
        ].map { ByteBuffer(string: $0) },
        words: [
            "--IPController.", "--HeartMonitor.", "--TaskScheduler.", "--DictDB.", "--Session.", "period",
            "max_heartmonitor_misses", "hwm",
            "scheme_name", "record_limit", "size_limit", "registration_timeout", "broadcast_scheduler_depth", "log_level",
            "db_class",
            "ports", "client_ports", "engine_ports", "retries", "9223372036854775807", "1e300", "-1", "nan", "\n\nc.",
        ]
    ) { input in
        let lines = input.split(at: UInt8(ascii: "\n"))
        let arguments = lines.prefix { $0.readableBytes > 0 }.map { String(buffer: $0) }
        let rest = lines.dropFirst(arguments.count + 1).map { String(buffer: $0) }.joined(separator: "\n")
        let file = rest.isEmpty ? nil : rest
        do throws(SettingsError) {
            let settings = try ControllerSettings(arguments: arguments, environment: [:]) {
                $0.hasSuffix("_config.py") ? file : nil
            }
            _ = (settings.clientFile, settings.engineFile)
        } catch {
            try require(!error.description.isEmpty, "what cannot be honoured is told why")
        }
        do throws(SettingsError) {
            let settings = try EngineSettings(arguments: arguments + ["--no-python"], environment: [:]) {
                $0.hasSuffix("_config.py") ? file : nil
            }
            _ = settings.place
        } catch {
            try require(!error.description.isEmpty, "what cannot be honoured is told why")
        }
    }
}

/// Reads an assignment as everything that a setting may be.
private func readAll(_ assignment: TraitAssignment) throws {
    _ = assignment.name
    _ = try? assignment.text()
    _ = try? assignment.flag()
    if let number = try? assignment.number(in: 1...100) { try require((1...100).contains(number), "a number is in its range") }
    if let ports = try? assignment.ports() { try require(ports.allSatisfy { (1...65535).contains($0) }, "ports are ports") }
}

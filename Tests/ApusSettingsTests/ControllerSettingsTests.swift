import ApusController
import ApusWire
import Logging
import Testing

@testable import ApusSettings

@Suite("Controller settings")
struct ControllerSettingsTests {
    private func settings(
        _ arguments: String..., environment: [String: String] = [:], config: String? = nil
    ) throws -> ControllerSettings {
        try ControllerSettings(arguments: ["--profile-dir=/p"] + arguments, environment: environment) { path in
            path == "/p/ipcontroller_config.py" ? config : nil
        }
    }

    @Test("Are those that ipyparallel's launchers and users pass")
    func options() throws {
        let settings = try self.settings(
            "--ip=*", "--location", "head", "--ping=250", "--log-level=10", "--scheme=lru", "--hwm=2", "--cluster-id=c",
            "--restore",
            "--sqlitedb", "--ports=10101-10103,10110", "--ssh=me@gate", "--no-secure",
            "--IPController.broadcast_scheduler_depth=2",
            "--IPController.client_ports=[7000, 7001]", "--engine-timeout=2.5", "--TaskScheduler.dependency_interval=0",
            "--python=/opt/python")
        #expect(settings.warnings == [])
        #expect(settings.profile.path == "/p")
        #expect(settings.clusterID == "c")
        #expect(settings.options.clientAddress == "*")
        #expect(settings.options.engineAddress == "*")
        #expect(settings.options.location == "head")
        #expect(settings.options.heartbeatPeriod == 250)
        #expect(settings.options.scheme == "lru")
        #expect(settings.options.highWaterMark == 2)
        #expect(settings.options.engineTimeout == .seconds(2.5))
        #expect(settings.options.dependencyInterval == nil)
        #expect(settings.options.ports == [10101, 10102, 10103, 10110])
        #expect(settings.options.clientPorts == [7000, 7001])
        #expect(settings.options.clientSSH == "me@gate")
        #expect(settings.options.key == "")
        #expect(settings.options.python == "/opt/python")
        #expect(settings.options.broadcastDepth == 2)
        #expect(settings.options.database == .sqlite(path: "/p/tasks-c.db"))
        #expect(settings.reusesFiles && settings.restoresEngines)
        #expect(settings.logLevel == .debug)
    }

    @Test("Waiting for the disk is a setting of the file of records, and says so where there is none")
    func fsync() throws {
        let settings = try self.settings("--profile-dir=/p", "--sqlitedb", "--fsync")
        #expect(settings.options.database == .sqlite(path: "/p/tasks.db", waitsForDisk: true))
        #expect(settings.warnings.isEmpty)
        let memory = try self.settings("--SQLiteDB.fsync=True", "--dictdb")
        #expect(memory.options.database == .memory())
        #expect(memory.warnings.contains { $0.contains("--fsync") }, "\(memory.warnings)")
    }

    @Test("Task records are in a file unless something else is chosen")
    func databases() throws {
        #expect(try self.settings("--profile-dir=/p").options.database == .sqlite(path: "/p/tasks.db"))
        let limited = try self.settings("--profile-dir=/p", "--SQLiteDB.record_limit=7", "--SQLiteDB.size_limit=20000000")
        #expect(limited.options.database == .sqlite(path: "/p/tasks.db", records: 7, bytes: 20_000_000))
        #expect(try self.settings("--dictdb").options.database == .memory())
        #expect(try self.settings("--nodb").options.database == .none)
        // Limits of the memory say that records are to be there, unless another place is named.
        #expect(try self.settings("--DictDB.record_limit=7").options.database == .memory(records: 7))
        #expect(
            try self.settings("--profile-dir=/p", "--sqlitedb", "--DictDB.record_limit=7").options.database
                == .sqlite(path: "/p/tasks.db"))
    }

    @Test("An IPv6 address means the same in brackets and without", arguments: ["::1", "[::1]"])
    func ipv6(address: String) throws {
        #expect(try self.settings("--ip=\(address)").options.engineAddress == "::1")
    }

    @Test("Of the environment give way to the command line")
    func environment() throws {
        let environment = ["IPP_CLUSTER_ID": "e", "IPP_SESSION_KEY": "k", "IPP_PROFILE_DIR": "/elsewhere"]
        let settings = try self.settings("--cluster-id=c", environment: environment)
        #expect(settings.clusterID == "c")
        #expect(settings.options.key == "k")
        #expect(settings.profile.path == "/p")
        let launched = try ControllerSettings(arguments: [], environment: environment) { _ in nil }
        #expect(launched.clusterID == "e")
        #expect(launched.profile.path == "/elsewhere")
    }

    @Test("Of a configuration file are its literal assignments; what else it does is named")
    func configurationFile() throws {
        let settings = try self.settings(
            "--ping=300",
            config: """
                # Configuration file for ipcontroller.
                c = get_config()  #noqa
                import socket
                c.HeartMonitor.period = 200
                c.HubFactory.engine_ip = '10.0.0.1'  # an old name
                c.IPController.ports = [
                    10101,  # the first
                    10102,
                ]
                c.IPController.engine_ports.extend((1, 2))
                c.Session.key = b'secret'
                c.TaskScheduler.hwm = 0
                c.DictDB.record_limit = 10_000
                c.IPController.location = socket.gethostname()
                c.IPController.nonsense = True
                """)
        #expect(settings.options.heartbeatPeriod == 300)
        #expect(settings.options.engineAddress == "10.0.0.1")
        #expect(settings.options.clientAddress == "127.0.0.1")
        #expect(settings.options.ports == [10101, 10102])
        #expect(settings.options.enginePorts == [1, 2])
        #expect(settings.options.key == "secret")
        #expect(settings.options.highWaterMark == 0)
        #expect(settings.options.database == .memory(records: 10_000))
        #expect(
            settings.warnings == [
                "/p/ipcontroller_config.py, line 14 has no effect: only literal assignments such as c.IPController.ip = '0.0.0.0' are read, and it is 'c.IPController.location = socket.gethostname()'",
                "/p/ipcontroller_config.py, line 15: this controller has no setting IPController.nonsense, so it has no effect",
            ])
    }

    @Test("That we do not know are warnings")
    func unknown() throws {
        let settings = try self.settings("--foo=1", "--InteractiveShell.colors=nocolor", "bar", "--usethreads")
        #expect(
            settings.warnings == [
                "--foo=1: there is no such option, so it has no effect", "'bar' is no option and has no effect",
                "--InteractiveShell.colors=nocolor: this controller has no setting InteractiveShell.colors, so it has no effect",
            ])
    }

    @Test(
        "That make no sense, or cannot be kept, are one clear error",
        arguments: [
            ("--ping=abc", "--ping=abc: HeartMonitor.period must be a whole number, not 'abc'"),
            ("--ping=0", "--ping=0: HeartMonitor.period must be from 1 to 86400000, not '0'"),
            (
                "--engine-timeout=1e30",
                "--engine-timeout=1e30: TaskScheduler.engine_timeout must be a number of seconds, at least 0 and at most 1e9, not '1e30'"
            ),
            (
                "--engine-timeout=nan",
                "--engine-timeout=nan: TaskScheduler.engine_timeout must be a number of seconds, at least 0 and at most 1e9, not 'nan'"
            ),
            ("--ports=9-x", "--ports=9-x: IPController.ports must be a list of ports, such as 10101-10110,10115, not '9-x'"),
            ("--ip", "--ip needs a value, as in --ip=…"),
            ("--transport=ipc", "--transport=ipc: only tcp can be used here, not 'ipc'"),
            ("--keyfile=/none", "the key file /none cannot be read"),
        ])
    func errors(argument: String, message: String) {
        #expect { try self.settings(argument) } throws: { "\($0)" == message }
        for refused in ["--scheme=best", "--mongodb", "--IPController.enable_curve=True", "--Session.packer=pickle"] {
            #expect(throws: SettingsError.self) { try self.settings(refused) }
        }
    }
}

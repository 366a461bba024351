import ApusEngine
import ApusWire
import Logging
import Testing

@testable import ApusSettings

@Suite("Engine settings")
struct EngineSettingsTests {
    private func settings(
        _ arguments: String..., environment: [String: String] = [:], config: String? = nil
    ) throws -> EngineSettings {
        try EngineSettings(arguments: ["--profile-dir=/p", "--no-python"] + arguments, environment: environment) { path in
            path == "/p/ipengine_config.py" ? config : nil
        }
    }

    @Test("Are those that ipyparallel's launchers and users pass")
    func options() throws {
        let settings = try self.settings(
            "--file=/f.json", "--cluster-id", "c", "--location=head", "--timeout=2.5", "--ident=me", "--log-level=10",
            "--IPEngine.id=3",
            "--max-message-size=1048576", "--resources=gpu=1,memory=64", "--work-dir=/w",
            "--IPEngine.max_heartbeat_misses=7", "--BaseParallelApplication.log_to_file=True")
        #expect(settings.warnings == [])
        #expect(settings.place.profile.path == "/p")
        #expect(settings.place.file == "/f.json")
        #expect(settings.place.clusterID == "c")
        #expect(settings.place.location == "head")
        #expect(settings.place.registrationTimeout == .seconds(2.5))
        #expect(settings.place.uuid == "me")
        #expect(settings.place.logLevel == .debug)
        #expect(settings.place.wantedID == EngineID(3))
        #expect(settings.place.maximumMessageSize == 1 << 20)
        #expect(settings.place.resources == ["gpu": 1, "memory": 64])
        #expect(settings.place.missedHeartbeatLimit == 7)
        #expect(settings.workingDirectory == "/w")
        #expect(settings.logFile?.hasPrefix("/p/log/ipengine-") == true)
        #expect(settings.place.python == nil)
    }

    @Test("The command line wins over the configuration file")
    func order() throws {
        let config = "c.IPEngine.timeout = 30\nc.IPEngine.cluster_id = 'f'\nc.InteractiveShell.autocall = 2"
        let settings = try self.settings("--timeout=5", config: config)
        #expect(settings.place.registrationTimeout == .seconds(5))
        #expect(settings.place.clusterID == "f")
    }

    @Test("An engine that MPI started asks for its rank as its id, unless it is told another")
    func ranks() throws {
        let environment = ["PMI_RANK": "4"]
        #expect(try self.settings("--mpi", environment: environment).place.wantedID == EngineID(4))
        #expect(try self.settings("--mpi", "--IPEngine.id=2", environment: environment).place.wantedID == EngineID(2))
        #expect(try self.settings(environment: environment).place.wantedID == nil)
    }

    @Test(
        "A value that makes no sense is an error that names the option",
        arguments: [
            ("--timeout=soon", "--timeout=soon: IPEngine.timeout must be a number of seconds"),
            ("--timeout=-1", "IPEngine.timeout must be"),
            ("--timeout=nan", "IPEngine.timeout must be"), ("--IPEngine.id=1e30", "IPEngine.id must be a whole number"),
            ("--IPEngine.id=-3", "IPEngine.id must be from 0"),
            ("--max-message-size=5", "IPEngine.max_message_size must be at least 1048576"),
            ("--resources=gpu", "--resources is a list such as"), ("--log-level=loud", "IPEngine.log_level must be"),
            ("--keyfile=/nowhere", "the key file /nowhere cannot be read"), ("--file", "--file needs a value"),
        ])
    func nonsense(argument: String, words: String) {
        let error = #expect(throws: SettingsError.self) { try self.settings(argument) }
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }

    @Test("An option that is unknown, or has no effect here, is a warning")
    func warnings() throws {
        #expect(try self.settings("--frobnicate", "3").warnings == ["--frobnicate: there is no such option, so it has no effect"])
        #expect(try self.settings("hello").warnings == ["'hello' is no option and has no effect"])
        #expect(try self.settings("--ssh=gate").warnings.first?.hasPrefix("--ssh has no effect") == true)
    }

    @Test("Help is asked for before anything else is looked at", arguments: ["--help", "-h", "--help-all"])
    func help(argument: String) throws {
        #expect(try self.settings(argument, "--IPEngine.id=-1").asksForHelp)
    }
}

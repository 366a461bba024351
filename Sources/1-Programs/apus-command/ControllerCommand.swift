import Apus
import ApusLaunchers
import ApusSettings
import ApusWire
import ArgumentParser
import Foundation
import Logging

/// `apus controller`: a controller alone, in place of `ipcontroller`.
struct ControllerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "Run a controller alone, in the foreground.",
        usage: "apus controller [--<option>=<value> ...] [--<Class>.<trait>=<value> ...]",
        discussion: """
            Takes the options, environment variables and configuration file of
            ipyparallel's ipcontroller, so that its launchers and users can put this
            program in its place. Engines and clients find it through the connection
            files in the profile's security folder.

              --profile=NAME  --profile-dir=FOLDER  --ipython-dir=FOLDER
              --cluster-id=ID     where the files are
              --ip=ADDRESS        listen there, '*' for every interface;
                                  only this machine can connect unless told
              --location=HOST     the host name to write into the files
              --ports=LIST        such as 10101-10120,10130; also --engine-ports
                                  and --client-ports
              --ssh=SERVER  --enginessh=SERVER
                                  tunnels that clients and engines are to use
              --ping=MS           time between heartbeats (3000)
              --scheme=NAME       leastload, lru, plainrandom, twobin, weighted,
                                  pure or none
              --hwm=N             unfinished tasks one engine may hold, 0 for any
                                  number; adapts unless told
              --engine-timeout=S  how long tasks wait while no engine is registered,
                                  before they end; for ever unless told
              --dependency-interval=S
                                  how soon a task is offered again to an engine that
                                  did not meet its condition (10); 0 for only when
                                  something has changed there
              --reuse             use ports and key of the files that are there,
                                  and leave the files at the end
              --restore           the same, and expect the engines that were
                                  registered. Tasks in a file (--sqlitedb) that
                                  have no outcome are taken up again
              --sqlitedb          keep task records in a file, so that tasks outlive
                                  the controller; so it is unless told. The file is
                                  tasks.db of the profile, with --cluster-id
                                  tasks-ID.db: records of 1,000,000 finished tasks
                                  (--SQLiteDB.record_limit=N), and at most 2 GiB
                                  (--SQLiteDB.size_limit=BYTES)
              --dictdb            keep them in memory: those of the last 1,024
                                  finished tasks (--DictDB.record_limit=N), and at
                                  most 256 MiB of their messages
                                  (--DictDB.size_limit=BYTES)
              --nodb              keep none
              --fsync             have the disk confirm each batch of records in the
                                  file, so that they outlive a power cut
              --max-message-size=BYTES
                                  the largest message taken (half of the memory)
              --max-unread=BYTES  how much may wait for a client that does not read
                                  before it is cut off (a quarter of the memory)
              --python=PATH       the interpreter that runs dask's scheduler when a
                                  client asks for one (become_dask): unless told,
                                  the active environment's, else python3 on the path
              --log-level=LEVEL  --debug  --quiet  --log-to-file  --clean-logs
              --work-dir=FOLDER  --config=FILE  --keyfile=FILE  --no-secure
              --user=NAME  --ident=ID
              --CLASS.TRAIT=VALUE any other setting of ipcontroller

            IPP_PROFILE_DIR, IPP_CLUSTER_ID and IPP_SESSION_KEY are read, and
            ipcontroller_config.py of the profile as far as it assigns literals.
            """)

    @Argument(parsing: .allUnrecognized, help: .hidden)
    var arguments: [String] = []

    func run() async throws {
        // Python's tools call every program with `--help-all`.
        if self.arguments.contains("--help-all") { throw CleanExit.helpRequest(self) }
        let settings: ControllerSettings
        do {
            settings = try ControllerSettings(arguments: self.arguments, environment: ProcessInfo.processInfo.environment) {
                try? String(contentsOfFile: $0, encoding: .utf8)
            }
        } catch {
            throw fail("\(error)")
        }
        try settings.prepareProcess()
        let logger = settings.logger
        for warning in settings.warnings { logger.warning("\(warning)") }

        var files = ControllerHost.Files(
            profile: settings.profile, clusterID: settings.clusterID, reuse: settings.reusesFiles)
        files.restore = settings.restoresEngines
        files.clientFile = settings.clientFile
        files.engineFile = settings.engineFile
        // From here on a signal stops the controller, also while the controller still starts.
        let signals = StopSignals()
        defer { signals.cancel() }
        let numbers = signals.numbers
        let host: ControllerHost
        do { host = try await ControllerHost(options: settings.options, files: files, logger: logger) } catch {
            throw fail("\(error)")
        }
        logger.info("listening; the connection files are in \(settings.profile.security)")
        let listing = ControllerListing(settings)
        listing.add()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for await number in numbers { return logger.notice("stopping on signal \(number)") }
            }
            group.addTask { try? await host.wait() }
            await group.next()
            group.cancelAll()
        }
        await host.stop()
        listing.remove()
    }
}

extension ControllerSettings {
    /// Creates the profile's folders, opens the log file and goes to the working folder.
    fileprivate func prepareProcess() throws {
        do { try self.profile.create() } catch { throw fail("the folder \(self.profile.path) cannot be made: \(error)") }
        if self.cleansLogs {
            for file in (try? FileManager.default.contentsOfDirectory(atPath: self.profile.log)) ?? []
            where file.hasPrefix("ipcontroller-") {
                try? FileManager.default.removeItem(atPath: self.profile.log + "/" + file)
            }
        }
        if self.logsToFile {
            let path = self.profile.log + "/ipcontroller-\(self.clusterID)-\(getpid()).log"
            standardError("the log is \(path)")
            let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
            guard file >= 0 else { throw fail("\(path) cannot be written: \(String(cString: strerror(errno)))") }
            dup2(file, STDERR_FILENO)
            close(file)
        }
        if let workingDirectory, !FileManager.default.changeCurrentDirectoryPath(workingDirectory) {
            throw fail("the working folder \(workingDirectory) is not there")
        }
    }

    fileprivate var logger: Logger {
        var logger = Logger(label: "apus.controller") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = self.logLevel
        return logger
    }
}

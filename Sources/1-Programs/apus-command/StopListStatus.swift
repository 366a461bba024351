import Apus
import ApusLaunchers
import ApusWire
import ArgumentParser
import Foundation

/// `apus stop`
struct Stop: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Stop a cluster: engines, then controller.")

    @OptionGroup var cluster: ClusterChoice

    func run() async throws {
        let profile = self.cluster.directory
        guard let listing = ClusterDirectory(profiles: [profile]).find(clusterID: self.cluster.clusterID), listing.isRunning
        else {
            throw fail("\(self.cluster.description) does not run in \(profile.path); 'apus list' shows those that do", code: 11)
        }
        do { try await listing.stop() } catch { throw fail("\(error)") }
        print("\(self.cluster.description) is stopped")
    }
}

/// `apus list`
struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the clusters of all profiles, also those of Python's ipcluster.")

    @Option(help: "The profile's folder to look in; all profiles unless told.")
    var profileDir: String?

    @Flag(
        help: ArgumentHelp(
            "Print one JSON array.",
            discussion: """
                Of each cluster: profile_dir, cluster_id, running, controller (whether it runs), engines (how many run), launcher and
                file; of a file that cannot be read: file and error.
                """))
    var json = false

    func run() throws {
        let profiles = self.profileDir.map { [ProfileDirectory(path: $0)] }
        let listings = ClusterDirectory(profiles: profiles).list()
        if self.json { return print(JSONValue.array(listings.map { $0.json })) }
        if listings.isEmpty { return print("no clusters; 'apus start -n 4' starts one") }
        print(
            table(
                ["PROFILE", "CLUSTER ID", "RUNNING", "ENGINES", "LAUNCHER"],
                listings.map { listing in
                    guard let file = listing.file else { return [listing.path, "?", "unreadable", "?", "?"] }
                    let name = URL(fileURLWithPath: file.profile.path).lastPathComponent
                    return [
                        name.hasPrefix("profile_") ? String(name.dropFirst("profile_".count)) : file.profile.path,
                        file.clusterID.isEmpty ? "''" : file.clusterID, listing.isRunning ? "yes" : "no",
                        String(listing.engineCount),
                        file.engineKind,
                    ]
                }))
    }
}

/// `apus status`
struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what a cluster's engines are doing.")

    @OptionGroup var cluster: ClusterChoice

    @Flag(
        help: ArgumentHelp(
            "Print one JSON object.",
            discussion: """
                engines: of each, by its id, queue (direct messages not answered), tasks (not answered) and completed; unassigned: how
                many tasks no engine has; waiting: why the first hundred of them wait, by id.
                """))
    var json = false

    func run() async throws {
        do {
            let client = try await Client.connect(
                profileDirectory: self.cluster.directory.path, clusterID: self.cluster.clusterID, timeout: .seconds(5))
            let status = try await client.queueStatus()
            if self.json {
                print(JSONValue.object(status.json))
                return await client.close()
            }
            if status.engines.isEmpty {
                print("the controller runs and has no engines; 'apus engine' starts one")
            } else {
                print(
                    table(
                        ["ENGINE", "QUEUE", "TASKS", "COMPLETED"],
                        status.engines.sorted { $0.key < $1.key }.map { id, engine in
                            ["\(id)", "\(engine.queue)", "\(engine.tasks)", "\(engine.completed)"]
                        }))
            }
            print("\(status.unassigned) tasks wait for an engine")
            // Controllers of ipyparallel do not say it.
            if let uptime = try? await client.uptime() {
                let time = uptime.time.formatted(
                    .units(allowed: [.days, .hours, .minutes, .seconds], width: .wide, maximumUnitCount: 2))
                print("the controller, of version \(uptime.version), has run for \(time)")
            }
            for (task, reason) in status.waiting.sorted(by: { $0.key < $1.key }).prefix(10) { print("  \(task): \(reason)") }
            await client.close()
        } catch {
            throw fail("\(error)")
        }
    }
}

extension ClusterListing {
    fileprivate var json: JSONValue {
        switch self.contents {
        case .success(let file):
            [
                "profile_dir": .string(file.profile.path), "cluster_id": .string(file.clusterID),
                "running": .bool(self.isRunning),
                "controller": .bool(self.hasController), "engines": .int(self.engineCount), "launcher": .string(file.engineKind),
                "file": .string(self.path),
            ]
        case .failure(let error): ["file": .string(self.path), "error": .string("\(error)")]
        }
    }
}

extension QueueStatus {
    fileprivate var json: JSONObject {
        let engines = self.engines.map { id, engine -> (String, JSONValue) in
            ("\(id)", ["queue": .int(engine.queue), "tasks": .int(engine.tasks), "completed": .int(engine.completed)])
        }
        let waiting = self.waiting.map { ($0.key.text, JSONValue.string($0.value)) }
        return [
            "engines": .object(JSONObject(uniqueKeysWithValues: engines)), "unassigned": .int(self.unassigned),
            "waiting": .object(JSONObject(uniqueKeysWithValues: waiting)),
        ]
    }
}

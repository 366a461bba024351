package import ApusWire
private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// The clusters of this user, as the files in IPython's profiles tell, ours and Python's alike.
package struct ClusterDirectory: Sendable {
    package let profiles: [ProfileDirectory]

    /// - Parameter profiles: Where to look; in every profile of IPython's folder unless told.
    package init(profiles: [ProfileDirectory]? = nil) { self.profiles = profiles ?? Self.allProfiles() }

    /// Every profile in IPython's folder, by name.
    package static func allProfiles(ipythonDirectory: String? = nil) -> [ProfileDirectory] {
        let folder = ipythonDirectory ?? ProfileDirectory.ipythonDirectory
        return Self.files(in: folder) { $0.hasPrefix("profile_") }.filter {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && isFolder.boolValue
        }.map { ProfileDirectory(path: $0) }
    }

    /// All clusters, by profile and id, with what is left of each. Nothing is changed.
    package func list() -> [ClusterListing] {
        self.profiles.flatMap { profile in
            Self.clusterFiles(in: profile).map { ClusterListing(path: $0) }
        }
    }

    /// The cluster of that id, in the first profile that has one.
    package func find(clusterID: String) -> ClusterListing? {
        self.profiles.lazy.map { $0.clusterFile(clusterID: clusterID) }.first { PrivateFile.exists($0) }
            .map { ClusterListing(path: $0) }
    }

    /// Removes what ended clusters left: their files, their connection files and their logs.
    ///
    /// Python's `ipcluster clean` gives up when a cluster runs; here those that run are left alone, with all that is theirs.
    ///
    /// - Parameter force: Those that run lose their files too; the processes go on, and nothing finds them any more.
    /// - Returns: The files removed.
    @discardableResult
    package func clean(force: Bool = false) -> [String] {
        var removed: [String] = []
        for profile in self.profiles {
            let clusters = Self.clusterFiles(in: profile).map { ClusterListing(path: $0) }
            let kept = force ? [] : clusters.filter { $0.isRunning }
            var keptFiles = Set(kept.map(\.path))
            for file in kept.compactMap(\.file) {
                keptFiles.formUnion([
                    profile.clientFile(clusterID: file.clusterID), profile.engineFile(clusterID: file.clusterID),
                    profile.engineStateFile(clusterID: file.clusterID),
                ])
                keptFiles.formUnion(file.processes.compactMap(\.outputFile))
            }
            let candidates =
                clusters.map(\.path) + Self.files(in: profile.security) { $0.hasPrefix("ipcontroller-") && $0.hasSuffix(".json") }
                + Self.files(in: profile.log) { _ in true }
            for path in candidates where !keptFiles.contains(path) && unlink(path) == 0 { removed.append(path) }
        }
        return removed
    }

    private static func clusterFiles(in profile: ProfileDirectory) -> [String] {
        Self.files(in: profile.security) { $0.hasPrefix("cluster-") && $0.hasSuffix(".json") }
    }

    private static func files(in folder: String, where isWanted: (String) -> Bool) -> [String] {
        // A folder that is missing holds nothing.
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter(isWanted).sorted().map {
            folder + "/" + $0
        }
    }
}

/// A cluster file, and what of it still runs.
package struct ClusterListing: Sendable {
    package let path: String
    /// The cluster, or why the file tells of none.
    package let contents: Result<ClusterFile, LauncherError>
    /// Whether the controller runs; also true when it runs where we cannot look (another host, a batch system).
    package let hasController: Bool
    /// How many engines run; those out of sight count as running.
    package let engineCount: Int
    private let living: [Int32]

    package var file: ClusterFile? { try? self.contents.get() }

    /// Whether anything of the cluster runs.
    package var isRunning: Bool { self.hasController || self.engineCount > 0 }

    package init(path: String) {
        self.path = path
        let written = (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
        do {
            let file = try ClusterFile(contentsOf: path)
            self.contents = .success(file)
            func runs(_ process: ClusterFile.Process) -> Bool {
                guard let id = process.processID else { return false }
                return ProcessTable.runs(id, clusterID: file.clusterID, fileWritten: written)
            }
            self.living = file.localProcesses.filter(runs).compactMap(\.processID)
            self.hasController = file.controller.map { !ClusterFile.isLocal($0.kind) || runs($0.process) } ?? false
            self.engineCount = file.engineSets.values.reduce(0) { count, set in
                guard ClusterFile.isLocal(file.engineKind), set.whole.processID != nil || !set.engines.isEmpty else {
                    return count + set.count
                }
                return count + (runs(set.whole) ? set.count : set.engines.values.filter(runs).count)
            }
        } catch {
            self.contents = .failure(error)
            self.hasController = false
            self.engineCount = 0
            self.living = []
        }
    }

    /// Ends what runs of the cluster on this host: SIGTERM, after the grace SIGKILL, and removes the file.
    ///
    /// What a process of the cluster leaves in a process group of its own gets a second longer, then SIGKILL (Python's
    /// controller is nine processes, and forgets eight when it is stopped while it starts).
    ///
    /// - Throws: ``LauncherError`` with code `stillRunning` when something outlives that; the file then stays.
    package func stop(grace: Duration = .seconds(5)) async throws {
        let groups = self.living.filter { getpgid($0) == $0 && $0 != getpgrp() }.map { -$0 }
        for (targets, signal, patience) in [
            (self.living, SIGTERM, grace), (self.living, SIGKILL, .seconds(5)), (groups, 0, .seconds(1)),
            (groups, SIGKILL, .seconds(5)),
        ] {
            for target in targets where ProcessTable.exists(target) { kill(target, signal) }
            // They are others' children, so their end is no event for us: look.
            let deadline = ContinuousClock.now + patience
            while targets.contains(where: ProcessTable.exists), ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let rest = (self.living + groups).filter(ProcessTable.exists)
        guard rest.isEmpty else {
            throw LauncherError(.stillRunning, "processes \(rest) of \(self.path) outlived SIGKILL")
        }
        PrivateFile.remove(self.path)
    }
}

extension ClusterFile {
    /// Whether that launcher's process ids are of this host.
    static func isLocal(_ kind: String) -> Bool { kind == "local" || kind == "mpi" }

    var localProcesses: [Process] {
        let controller = self.controller.flatMap { Self.isLocal($0.kind) ? $0.process : nil }
        let engines = Self.isLocal(self.engineKind) ? self.engineSets.values.flatMap { [$0.whole] + $0.engines.map(\.value) } : []
        return [controller].compactMap { $0 } + engines
    }
}

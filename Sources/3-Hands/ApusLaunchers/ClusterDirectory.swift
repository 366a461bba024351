package import ApusWire
private import Foundation

#if canImport(Glibc)
    private import Glibc
#elseif canImport(Musl)
    private import Musl
#elseif canImport(Darwin)
    private import Darwin
#endif

/// The clusters of this user, Apus's and Python's, as the files in IPython's profiles describe them.
package struct ClusterDirectory: Sendable {
    package let profiles: [ProfileDirectory]

    /// - Parameter profiles: The profiles to look in; nil: all in IPython's folder.
    package init(profiles: [ProfileDirectory]? = nil) { self.profiles = profiles ?? Self.allProfiles() }

    /// Every profile in IPython's folder, by name.
    package static func allProfiles(ipythonDirectory: String? = nil) -> [ProfileDirectory] {
        let folder = ipythonDirectory ?? ProfileDirectory.ipythonDirectory
        return Self.files(in: folder) { $0.hasPrefix("profile_") }.filter {
            var isFolder: ObjCBool = false
            return FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && isFolder.boolValue
        }.map { ProfileDirectory(path: $0) }
    }

    /// All clusters, by profile and id, with their processes that still run. Nothing is changed.
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

    /// Removes the files of ended clusters: cluster files, connection files and logs.
    ///
    /// Python's `ipcluster clean` gives up when a cluster runs; here the files of running clusters are kept.
    ///
    /// - Parameter force: Removes the files of running clusters too; their processes go on, and no tool finds them any more.
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
        // A missing folder has no files.
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter(isWanted).sorted().map {
            folder + "/" + $0
        }
    }
}

/// A cluster file, and the processes of its cluster that still run.
package struct ClusterListing: Sendable {
    package let path: String
    /// The cluster, or why the file cannot be read.
    package let contents: Result<ClusterFile, LauncherError>
    /// Whether the controller runs; also true for a controller that cannot be checked (on another host, in a batch system).
    package let hasController: Bool
    /// How many engines run; engines that cannot be checked count as running.
    package let engineCount: Int
    private let living: [Int32]

    package var file: ClusterFile? { try? self.contents.get() }

    /// Whether the process runs that starts a dead controller or engine again.
    let hasLauncher: Bool

    /// Whether anything of the cluster runs.
    package var isRunning: Bool { self.hasController || self.engineCount > 0 || self.hasLauncher }

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
            // First, so that it does not start again what ends.
            let launcher = file.launcher.flatMap {
                ProcessTable.runs($0, clusterID: file.clusterID, fileWritten: written) ? $0 : nil
            }
            self.hasLauncher = launcher != nil
            self.living = [launcher].compactMap { $0 } + file.localProcesses.filter(runs).compactMap(\.processID)
            self.hasController = file.controller.map { !ClusterFile.isLocal($0.kind) || runs($0.process) } ?? false
            self.engineCount = file.engineSets.values.reduce(0) { count, set in
                guard ClusterFile.isLocal(file.engineKind), set.whole.processID != nil || !set.engines.isEmpty else {
                    return count + set.count
                }
                return count + (runs(set.whole) ? set.count : set.engines.values.filter(runs).count)
            }
        } catch {
            self.contents = .failure(error)
            (self.hasController, self.hasLauncher) = (false, false)
            self.engineCount = 0
            self.living = []
        }
    }

    /// Ends the cluster's processes on this host, with SIGTERM and after the grace with SIGKILL, and removes the file.
    ///
    /// Where the cluster's controller or engines were started again meanwhile, these are ended too.
    ///
    /// Processes left in the process group of a cluster's process get a second more, then SIGKILL (Python's controller is nine
    /// processes, and leaves eight behind when it is stopped while it starts).
    ///
    /// - Throws: ``LauncherError`` with code `stillRunning` when a process outlives SIGKILL; the file then stays.
    package func stop(grace: Duration = .seconds(5)) async throws {
        try await self.endProcesses(grace)
        for _ in 0..<3 {
            let now = ClusterListing(path: self.path)
            if now.living.isEmpty { break }
            try await now.endProcesses(grace)
        }
        PrivateFile.remove(self.path)
    }

    private func endProcesses(_ grace: Duration) async throws {
        let groups = self.living.filter { getpgid($0) == $0 && $0 != getpgrp() }.map { -$0 }
        for (targets, signal, patience) in [
            (self.living, SIGTERM, grace), (self.living, SIGKILL, .seconds(5)), (groups, 0, .seconds(1)),
            (groups, SIGKILL, .seconds(5)),
        ] {
            for target in targets where ProcessTable.exists(target) { kill(target, signal) }
            // The processes are children of others, so their end is no event here and is polled for.
            let deadline = ContinuousClock.now + patience
            while targets.contains(where: ProcessTable.exists), ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let rest = (self.living + groups).filter(ProcessTable.exists)
        guard rest.isEmpty else {
            throw LauncherError(.stillRunning, "processes \(rest) of \(self.path) outlived SIGKILL")
        }
    }
}

extension ClusterFile {
    /// Whether the process ids of that kind of launcher are of this host. `apus` is the launcher of the Python package.
    static func isLocal(_ kind: String) -> Bool { ["local", "mpi", "apus"].contains(kind) }

    var localProcesses: [Process] {
        let controller = self.controller.flatMap { Self.isLocal($0.kind) ? $0.process : nil }
        let engines = Self.isLocal(self.engineKind) ? self.engineSets.values.flatMap { [$0.whole] + $0.engines.map(\.value) } : []
        return [controller].compactMap { $0 } + engines
    }
}

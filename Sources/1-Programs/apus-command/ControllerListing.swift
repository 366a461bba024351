import Apus
import ApusLaunchers
import ApusSettings
import ApusWire
import Foundation

/// A controller's entry in the list of clusters, by which `ipcluster list` and `apus list` show it, and `stop` ends it.
///
/// A launcher that starts controllers names the cluster in the environment and keeps the cluster's file itself.
struct ControllerListing {
    private let file: ClusterFile?

    init(_ settings: ControllerSettings) {
        let isLaunched = ProcessInfo.processInfo.environment[EnvironmentVariable.clusterID] != nil
        var file = ClusterFile(clusterID: settings.clusterID, profile: settings.profile)
        file.controller = ClusterFile.Controller(
            process: ClusterFile.Process(
                processID: getpid(), outputFile: "", clusterID: settings.clusterID, profile: settings.profile))
        self.file = isLaunched ? nil : file
    }

    func add() {
        do { try self.file?.save() } catch {
            standardError("apus: 'ipcluster list' will not show this controller: \(error)")
        }
    }

    /// Removes the entry, if it is still ours.
    func remove() {
        guard let file, let current = try? ClusterFile(contentsOf: file.path),
            current.controller?.process.processID == getpid(), current.engineSets.isEmpty
        else { return }
        PrivateFile.remove(file.path)
    }
}

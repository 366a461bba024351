import Apus
import ApusLaunchers
import ApusSettings
import ApusWire
import Foundation

/// The cluster file of a controller that was started by hand, so that `ipcluster list` and `apus list` show the controller, and
/// `stop` ends it.
///
/// No file is written where the environment names the cluster: the launcher that started the controller writes the cluster's
/// file.
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

    /// Removes the file, unless it now names another process or has engines.
    func remove() {
        guard let file, let current = try? ClusterFile(contentsOf: file.path),
            current.controller?.process.processID == getpid(), current.engineSets.isEmpty
        else { return }
        PrivateFile.remove(file.path)
    }
}

private import Foundation

/// Where a cluster's files are: IPython's profile folder, which Python's tools share (protocol article, "Where").
public struct ProfileDirectory: Sendable, Hashable {
    /// The profile's own folder.
    public let path: String

    /// The profile in this folder, which need not be there yet; a `~` in front is the user's home.
    public init(path: String) { self.path = Self.absolute(path) }

    /// The profile of that name under IPython's folder.
    ///
    /// - Parameters:
    ///   - name: The profile's name; by default `default`.
    ///   - ipythonDirectory: IPython's folder; nil: `$IPYTHONDIR` or `~/.ipython`.
    public init(profile name: String = "default", ipythonDirectory: String? = nil) {
        let folder = ipythonDirectory.map { Self.absolute($0) } ?? Self.ipythonDirectory
        self.path = folder + "/profile_" + name
    }

    /// The profile that options and the environment name, in the order of Python's tools: an explicit folder, an explicit
    /// profile, `$IPP_PROFILE_DIR`, the default profile.
    public init(explicitPath: String?, profile: String?, ipythonDirectory: String? = nil) {
        if let explicitPath {
            self.init(path: explicitPath)
        } else if let profile {
            self.init(profile: profile, ipythonDirectory: ipythonDirectory)
        } else if let path = Self.environment(EnvironmentVariable.profileDirectory) {
            self.init(path: path)
        } else {
            self.init(ipythonDirectory: ipythonDirectory)
        }
    }

    /// `$IPYTHONDIR`, else `~/.ipython`.
    public static var ipythonDirectory: String {
        if let path = Self.environment(EnvironmentVariable.ipythonDirectory) { return Self.absolute(path) }
        return NSHomeDirectory() + "/.ipython"
    }

    /// One variable of the environment; nil if it is not set or empty. `ProcessInfo` would copy the whole environment.
    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// The folder of connection files, readable by its owner only.
    public var security: String { self.path + "/security" }
    /// The folder of the logs of controllers and engines that run in the background.
    public var log: String { self.path + "/log" }
    /// The folder in which Python's tools keep process ids.
    public var pid: String { self.path + "/pid" }

    /// The path of the connection file that clients of this cluster read.
    public func clientFile(clusterID: String) -> String { self.connectionFile("client", clusterID) }
    /// The path of the connection file that engines of this cluster read.
    public func engineFile(clusterID: String) -> String { self.connectionFile("engine", clusterID) }
    /// The path of the file by which `apus list` and Python's `ipcluster list` know the cluster.
    public func clusterFile(clusterID: String) -> String { self.security + "/cluster-\(clusterID).json" }
    /// The name of the file in the profile's folder in which a controller keeps task records. Each cluster has a file of its own,
    /// because a controller takes up the unfinished tasks that it finds there.
    public static func taskFileName(clusterID: String) -> String { clusterID.isEmpty ? "tasks.db" : "tasks-\(clusterID).db" }
    /// The path of the file in which a controller keeps the registered engines for its next start.
    public func engineStateFile(clusterID: String) -> String { self.log + "/engines\(clusterID).json" }

    private func connectionFile(_ side: String, _ clusterID: String) -> String {
        self.security + "/ipcontroller-" + (clusterID.isEmpty ? "" : clusterID + "-") + side + ".json"
    }

    /// Makes the profile's folders, those with secrets in them for their owner only.
    public func create() throws {
        let files = FileManager.default
        try files.createDirectory(atPath: self.path, withIntermediateDirectories: true)
        for (folder, mode) in [(self.security, 0o700), (self.pid, 0o700), (self.log, 0o755), (self.path + "/startup", 0o755)] {
            if !files.fileExists(atPath: folder) {
                try files.createDirectory(
                    atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: mode])
            } else if mode == 0o700 {
                try files.setAttributes([.posixPermissions: mode], ofItemAtPath: folder)
            }
        }
    }

    private static func absolute(_ path: String) -> String {
        let expanded = path.hasPrefix("~") ? NSString(string: path).expandingTildeInPath : path
        // Python's tools compare paths as text, so the path is spelled as theirs: no doubled or trailing slash, no dots.
        return URL(fileURLWithPath: expanded).standardizedFileURL.path
    }
}

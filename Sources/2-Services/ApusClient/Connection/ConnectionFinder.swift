package import ApusWire

/// Finds the connection file that a user means.
package enum ConnectionFinder {
    /// Reads a client file that is named by its path, or given as its JSON text.
    ///
    /// - Throws: ``ApusError`` with code `connectionFileNotFound` or `badConnectionFile`.
    package static func client(file: String) throws -> ClientConnectionInfo {
        do {
            if file.hasPrefix("{") { return try ClientConnectionInfo(JSONValue(parsing: file)) }
            guard PrivateFile.exists(file) else {
                throw ApusError(
                    .connectionFileNotFound,
                    "there is no connection file at \(file). Is the cluster running? 'apus start' starts one")
            }
            return try ClientConnectionInfo(PrivateFile.readJSON(file))
        } catch let error as WireError {
            let name = file.hasPrefix("{") ? "the connection text" : file
            throw ApusError(.badConnectionFile, "\(name) is not a client connection file: \(error)")
        }
    }

    /// Finds the client file of a profile and cluster id.
    package static func client(profile: ProfileDirectory, clusterID: String) throws -> ClientConnectionInfo {
        let path = profile.clientFile(clusterID: clusterID)
        guard PrivateFile.exists(path) else {
            throw ApusError(
                .connectionFileNotFound,
                """
                no cluster\(clusterID.isEmpty ? "" : " '\(clusterID)'") runs in the profile \(profile.path): there is no \(path). Start one with \
                'apus start -n 4', or name the profile, the cluster id or the connection file of one that runs ('apus list')
                """)
        }
        return try self.client(file: path)
    }
}

package import ApusWire

extension ClusterFile {
    package init(_ json: JSONValue) throws(WireError) {
        guard var cluster = json["cluster"]?.object else { throw WireError("there is no 'cluster'") }
        guard let id = cluster.removeValue(forKey: "cluster_id")?.string else { throw WireError("'cluster_id' is no text") }
        guard let profile = cluster.removeValue(forKey: "profile_dir")?.string, !profile.isEmpty else {
            throw WireError("'profile_dir' is no path")
        }
        self.init(clusterID: id, profile: ProfileDirectory(path: profile))
        self.engineCount = cluster.removeValue(forKey: "n")?.int
        self.controllerArguments = cluster.removeValue(forKey: "controller_args")?.array?.compactMap(\.string) ?? []
        self.controllerIP = cluster.removeValue(forKey: "controller_ip")?.string ?? ""
        self.controllerLocation = cluster.removeValue(forKey: "controller_location")?.string ?? ""
        self.delay = cluster.removeValue(forKey: "delay")?.double ?? 1
        self.otherMembers = cluster

        if let controller = json["controller"]?.object, let state = controller["state"]?.object {
            self.controller = Controller(kind: controller["class"]?.string ?? "local", process: Process(state, of: self))
        }
        if let engines = json["engines"]?.object {
            self.engineKind = engines["class"]?.string ?? "local"
            for (id, set) in engines["sets"]?.object ?? [:] {
                guard let members = set.object else { throw WireError("engine set '\(id)' is no object") }
                self.engineSets[id] = EngineSet(members, of: self)
            }
        }
    }

    package var json: JSONValue {
        var cluster = self.otherMembers
        cluster["cluster_id"] = .string(self.clusterID)
        cluster["profile_dir"] = .string(self.profile.path)
        cluster["n"] = self.engineCount.map { .int($0) } ?? .null
        cluster["controller_args"] = JSONValue(self.controllerArguments)
        cluster["controller_ip"] = .string(self.controllerIP)
        cluster["controller_location"] = .string(self.controllerLocation)
        cluster["delay"] = .double(self.delay)
        var file: JSONObject = ["cluster": .object(cluster)]
        if let controller {
            file["controller"] = ["class": .string(controller.kind), "state": .object(controller.process.json)]
        }
        file["engines"] = [
            "class": .string(self.engineKind), "sets": .object(self.engineSets.mapValues { .object($0.json) }),
        ]
        return .object(file)
    }
}

extension ClusterFile.Process {
    /// Reads a process; a missing id or profile is the cluster's.
    fileprivate init(_ members: JSONObject, of cluster: ClusterFile) {
        var members = members
        let processID = members.removeValue(forKey: "pid")?.int.flatMap { Int32(exactly: $0) }
        let profile = members.removeValue(forKey: "profile_dir")?.string.map { ProfileDirectory(path: $0) }
        self.init(
            processID: processID.flatMap { $0 > 0 ? $0 : nil },
            outputFile: members.removeValue(forKey: "output_file")?.string,
            clusterID: members.removeValue(forKey: "cluster_id")?.string ?? cluster.clusterID,
            profile: profile ?? cluster.profile, state: members.removeValue(forKey: "state")?.string ?? "running",
            otherMembers: members)
    }

    fileprivate var json: JSONObject {
        var members = self.otherMembers
        members["cluster_id"] = .string(self.clusterID)
        members["profile_dir"] = .string(self.profile.path)
        members["state"] = .string(self.state)
        if let outputFile { members["output_file"] = .string(outputFile) }
        if let processID { members["pid"] = .int(Int(processID)) }
        return members
    }
}

extension ClusterFile.EngineSet {
    fileprivate init(_ members: JSONObject, of cluster: ClusterFile) {
        var members = members
        // The numbers of SSH's sets stand for hosts and are counts; only objects are processes.
        var engines: [String: ClusterFile.Process] = [:]
        if let listed = members["engines"]?.object, listed.values.allSatisfy({ $0.object != nil }) {
            members["engines"] = nil
            for (number, engine) in listed {
                engines[number] = engine.object.map { members in
                    var members = members
                    // An engine's count is always 1.
                    members["n"] = nil
                    return ClusterFile.Process(members, of: cluster)
                }
            }
        }
        let count = members.removeValue(forKey: "n")?.int
        self.init(count: count ?? engines.count, whole: ClusterFile.Process(members, of: cluster))
        self.engines = engines
    }

    fileprivate var json: JSONObject {
        var members = self.whole.json
        members["n"] = .int(self.count)
        guard !self.engines.isEmpty else { return members }
        // A local set has no process of its own; Python writes -1 for it.
        if members["pid"] == nil { members["pid"] = -1 }
        members["engines"] = .object(
            self.engines.mapValues { engine in
                var engine = engine.json
                engine["n"] = 1
                return .object(engine)
            })
        return members
    }
}

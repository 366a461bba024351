import ApusWire
import Foundation
import Glibc
import Testing

@testable import ApusLaunchers

@Suite("Cluster files")
struct ClusterFileTests {
    private static var captured: JSONValue {
        get throws {
            let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            let vector = try String(contentsOf: tests.appending(path: "Vectors/cluster_file.json"), encoding: .utf8)
            let file = try JSONValue(parsing: vector)
            return try #require(file["cluster"])
        }
    }

    @Test("A file that Python wrote is understood, and written as it was")
    func captured() throws {
        let file = try ClusterFile(Self.captured)
        #expect(file.clusterID == "")
        #expect(file.profile.path == "/PROFILE_DIR")
        #expect(file.path == "/PROFILE_DIR/security/cluster-.json")
        #expect(file.engineCount == 1)
        #expect(file.controller?.process.processID == 15776)
        #expect(file.engineSets["1795430986"]?.engines["0"]?.processID == 15806)
        #expect(file.engineSets["1795430986"]?.whole.processID == nil)
        #expect(file.processes.map(\.processID) == [15776, 15806])
        #expect(file.json == (try Self.captured))
    }

    @Test("A cluster of ours reads as Python's own would")
    func ours() throws {
        var file = ClusterFile(clusterID: "", profile: ProfileDirectory(path: "/PROFILE_DIR"), engineCount: 1)
        func process(_ id: Int32, _ log: String) -> ClusterFile.Process {
            .init(processID: id, outputFile: "/PROFILE_DIR/log/\(log)", clusterID: "", profile: file.profile)
        }
        file.controller = .init(process: process(15776, "ipcontroller-15774.log"))
        file.engineSets["1795430986"] = .init(
            engines: ["0": process(15806, "ipengine--1795430986-0.log")], clusterID: "", profile: file.profile)
        #expect(file.json == (try Self.captured))
    }

    @Test("What another launcher or a later version writes is kept")
    func unknownMembers() throws {
        let text = """
            {"cluster": {"cluster_id": "x", "class": "mine.Cluster", "controller_args": ["--ip=*"], "controller_ip": "",
             "controller_location": "", "delay": 0.5, "n": null, "new": [1], "profile_dir": "/p"}, "engines": {"class": "ssh",
             "sets": {"1": {"cluster_id": "x", "engines": {"host": 2}, "hostname": "h", "n": 2, "profile_dir": "/p",
             "state": "running"}, "2": {"cluster_id": "x", "job_id": "77", "n": 8, "output_file": "o", "profile_dir": "/p",
             "state": "running"}}}}
            """
        let file = try ClusterFile(JSONValue(parsing: text))
        #expect(file.engineSets.mapValues(\.count) == ["1": 2, "2": 8])
        #expect(file.engineSets["2"]?.whole.otherMembers == ["job_id": "77"])
        #expect(file.json == (try JSONValue(parsing: text)))
    }

    @Test("A cluster file needs only an id and a profile")
    func minimal() throws {
        let file = try ClusterFile(JSONValue(parsing: #"{"cluster": {"cluster_id": "x", "profile_dir": "/p"}}"#))
        #expect(file.controller == nil)
        #expect(file.delay == 1)
        #expect(file.engineKind == "local")
    }

    @Test(
        "A torn or foreign file says what is wrong with it",
        arguments: [
            (" ", "is torn or no JSON"), ("{\"cluster\": {", "is torn or no JSON"), ("[]", "holds no JSON object"),
            ("{}", "there is no 'cluster'"), (#"{"cluster": {"cluster_id": 1}}"#, "'cluster_id' is no text"),
            (#"{"cluster": {"cluster_id": ""}}"#, "'profile_dir' is no path"),
            (
                #"{"cluster": {"cluster_id": "", "profile_dir": "/p"}, "engines": {"sets": {"1": 2}}}"#,
                "engine set '1' is no object"
            ),
        ])
    func torn(text: String, reason: String) throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/cluster-.json"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        let error = #expect(throws: LauncherError.self) { try ClusterFile(contentsOf: path) }
        #expect(error?.code == .unreadableClusterFile)
        #expect(error?.description.contains(reason) == true)
    }

    @Test("The file comes with the first process and goes with the last")
    func saving() throws {
        let folder = try TemporaryFolder()
        var file = ClusterFile(clusterID: "a", profile: ProfileDirectory(path: folder.path + "/profile_p"))
        try file.save()
        #expect(!PrivateFile.exists(file.path))
        file.controller = .init(process: .init(processID: 1, outputFile: "", clusterID: "a", profile: file.profile))
        try file.save()
        #expect(try ClusterFile(contentsOf: file.path) == file)
        let mode = try FileManager.default.attributesOfItem(atPath: file.path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        file.controller = nil
        try file.save()
        #expect(!PrivateFile.exists(file.path))
    }

    @Test("Ids are made as Python makes them")
    func ids() throws {
        let now = Date(timeIntervalSince1970: 1_795_430_986.7)
        let id = ClusterFile.newClusterID(now: now)
        #expect(id.wholeMatch(of: /1795430986-[a-z0-9]{4}/) != nil)
        #expect(ClusterFile.newSetID(besides: [], now: now) == "1795430986")
        #expect(ClusterFile.newSetID(besides: ["1795430986", "1795430986-1"], now: now) == "1795430986-2")
    }
}

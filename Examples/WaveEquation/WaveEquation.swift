import Apus
import Foundation

/// A piece of a swinging string, which is held at both ends: where each of its points is, and was a step before.
struct Piece: Codable, Sendable {
    var now: [Double]
    var before: [Double]

    /// Computes the next step in time. `left` and `right` are the nearest points of the neighbouring pieces.
    mutating func advance(left: Double, right: Double, courant: Double) {
        let count = self.now.count
        var next = self.now
        for place in 0..<count {
            let (west, east) = (place > 0 ? self.now[place - 1] : left, place < count - 1 ? self.now[place + 1] : right)
            next[place] = 2 * self.now[place] - self.before[place] + courant * courant * (west - 2 * self.now[place] + east)
        }
        (self.before, self.now) = (self.now, next)
    }

    var edges: Edges { Edges(left: self.now.first ?? 0, right: self.now.last ?? 0) }
}

/// The outermost points of a piece, which its neighbours need.
struct Edges: Codable, Sendable {
    var left: Double
    var right: Double
}

/// Gives an engine its piece, which the engine keeps.
@Remote
func begin(_ piece: Piece) throws -> Edges {
    try EngineContext.current?.namespace.set("piece", to: piece)
    return piece.edges
}

/// Computes the next step of an engine's piece, and gives the piece's new edges.
@Remote
func step(left: Double, right: Double, courant: Double) throws -> Edges {
    guard let namespace = EngineContext.current?.namespace, var piece = try namespace.get("piece", as: Piece.self) else {
        return Edges(left: 0, right: 0)
    }
    piece.advance(left: left, right: right, courant: courant)
    try namespace.set("piece", to: piece)
    return piece.edges
}

@Remote
func points() throws -> [Double] { try EngineContext.current?.namespace.get("piece", as: Piece.self)?.now ?? [] }

/// Computes a swinging string that is divided among the engines, and compares it with a whole one: `wave-equation [points]
/// [steps]`.
@main
struct WaveEquation {
    static func main() async throws {
        let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
        let (count, steps) = (numbers.first ?? 400, numbers.dropFirst().first ?? 200)
        let courant = 0.9
        let start = (0..<count).map { sin(Double.pi * Double($0 + 1) / Double(count + 1)) }
        var whole = Piece(now: start, before: start)
        for _ in 0..<steps { whole.advance(left: 0, right: 0, courant: courant) }

        let swung = try await withCluster(engines: 3) { client in
            let engines = client.ids.map { client[$0] }
            var edges: [Edges] = []
            for (index, engine) in engines.enumerated() {
                let part = Array(start[index * count / engines.count..<(index + 1) * count / engines.count])
                edges.append(try await engine.apply($begin, Piece(now: part, before: part)))
            }
            for _ in 0..<steps {
                // Each engine gets its neighbours' edges; all steps of one moment run at once.
                let moves = try engines.indices.map { index in
                    try engines[index].applyAsync(
                        $step, index > 0 ? edges[index - 1].right : 0, index < engines.count - 1 ? edges[index + 1].left : 0,
                        courant)
                }
                for (index, move) in moves.enumerated() { edges[index] = try await move.value }
            }
            return try await client[...].apply($points).flatMap { $0 }
        }
        print("\(count) points after \(steps) steps; the middle is at \(swung[count / 2])")
        guard swung == whole.now else {
            print("the pieces do not swing as the whole does")
            exit(1)
        }
    }
}

import Apus
import Foundation

/// A pair of a support vector machine's parameters, to be tried.
struct Candidate: Sendable {
    let penalty: Double
    let gamma: Double
}

/// Chooses a classifier's parameters by scikit-learn's cross-validation, a task for each candidate and fold:
/// `cross-validation [folds]`.
///
/// The engines are this program, and run Python as well: the interpreter that `APUS_PYTHON` names, else the active environment's.
/// The interpreter needs scikit-learn (`pip install scikit-learn`).
@main
struct CrossValidation {
    /// The code that every engine runs first: the data, its division, which is the same on each engine, and how one fold is
    /// scored.
    static func setUp(folds: Int) -> String {
        """
        from sklearn.datasets import load_digits
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from sklearn.svm import SVC

        digits = load_digits()
        division = StratifiedKFold(n_splits=\(folds), shuffle=True, random_state=0)
        folds = list(division.split(digits.data, digits.target))

        def score(penalty, gamma, fold):
            train, test = folds[fold]
            model = SVC(C=penalty, gamma=gamma).fit(digits.data[train], digits.target[train])
            return float(model.score(digits.data[test], digits.target[test]))

        def whole_score(penalty, gamma):
            return cross_val_score(SVC(C=penalty, gamma=gamma), digits.data, digits.target, cv=division).tolist()
        """
    }

    static func main() async {
        do { try await Self.run() } catch {
            FileHandle.standardError.write(Data("cross-validation: \(error)\n".utf8))
            exit(1)
        }
    }

    static func run() async throws {
        let folds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 5
        let candidates = [0.1, 1, 10].flatMap { penalty in
            [0.0001, 0.001, 0.01].map { Candidate(penalty: penalty, gamma: $0) }
        }
        var options = Cluster.Options()
        options.python = .interpreter(ProcessInfo.processInfo.environment["APUS_PYTHON"])
        try await withCluster(options: options) { client in
            try await client[...].execute(Self.setUp(folds: folds))
            let tasks = candidates.flatMap { candidate in (0..<folds).map { (candidate, $0) } }
            let scores = try client.loadBalancedView().mapAsync(
                "score", tasks.map { $0.0.penalty }, tasks.map { $0.0.gamma }, tasks.map { $0.1 }, returning: Double.self)
            try await scores.waitInteractive()

            let byCandidate = try await scores.value.chunks(of: folds)
            let means = byCandidate.map { $0.reduce(0, +) / Double(folds) }
            let best = means.indices.max { means[$0] < means[$1] } ?? 0
            print("penalty   gamma  accuracy of \(folds) folds")
            for (candidate, mean) in zip(candidates, means) {
                print("\(column(candidate.penalty, 7))\(column(candidate.gamma, 8))  \(String(format: "%.4f", mean))")
            }
            let chosen = candidates[best]
            print("best: penalty \(chosen.penalty), gamma \(chosen.gamma)")
            // The same, by scikit-learn alone on one engine.
            let whole: [Double] = try await client[0].apply("whole_score", chosen.penalty, chosen.gamma)
            guard zip(whole, byCandidate[best]).allSatisfy({ abs($0 - $1) < 1e-12 }) else {
                print("cross_val_score gives \(whole), the engines gave \(byCandidate[best])")
                exit(1)
            }
            print("cross_val_score agrees")
        }
    }

    static func column(_ number: Double, _ width: Int) -> String {
        let text = "\(number)"
        return String(repeating: " ", count: max(1, width - text.count)) + text
    }
}

extension Array {
    func chunks(of size: Int) -> [[Element]] {
        stride(from: 0, to: self.count, by: size).map { Array(self[$0..<Swift.min($0 + size, self.count)]) }
    }
}

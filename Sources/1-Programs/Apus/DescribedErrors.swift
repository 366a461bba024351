package import ApusFunctions
package import ApusLaunchers
package import ApusStore
package import ApusTransport
package import ApusWire
package import Foundation

/// An error of a lower module, whose description is a sentence for users.
///
/// Users see such an error as the cause of an `ApusError`. Foundation reads `errorDescription`, and without it says that the
/// operation could not be completed. The protocol stands here because the modules have no module below them in common.
package protocol DescribedError: LocalizedError, CustomStringConvertible {}

extension DescribedError {
    package var errorDescription: String? { self.description }
}

extension LauncherError: DescribedError {}
extension LibraryError: DescribedError {}
extension TaskStoreError: DescribedError {}
extension TransportError: DescribedError {}
extension WireError: DescribedError {}

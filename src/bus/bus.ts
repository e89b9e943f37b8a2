/**
 * The port of what the processes of one site tell each other. Best effort: a message comes at most once, in any order,
 * or not at all, so nothing that must be right may rest on one (freshness and tombstones are state, not messages).
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'

/** A client met something of the repository that was not here, or wrote to it: worth a look by the replicator. */
export interface Hint {
  readonly kind: 'hint'
  readonly name: RepositoryName
}

/** What lay at the digest's path has been moved aside or replaced: whoever has it open reads something else than is there. */
export interface BlobGone {
  readonly kind: 'blob-gone'
  readonly digest: Digest
}

/** What clients of one process caused since it last said so: copying stands back for them wherever it runs. */
export interface Traffic {
  readonly kind: 'traffic'
  /** Bytes that came from the primary, whoever asked for them. */
  readonly arrivedBytes: number
  /** Requests to the primary that clients caused. */
  readonly requests: number
  /** Bytes of blobs that clients got. */
  readonly servedBytes: number
}

export type BusMessage = Hint | BlobGone | Traffic
export type MessageOf<K extends BusMessage['kind']> = Extract<BusMessage, { readonly kind: K }>

export interface Bus extends AsyncDisposable {
  /** To every listener of the site, those of this process included. Never throws, and waits for nobody. */
  publish(message: BusMessage): void
  on<K extends BusMessage['kind']>(kind: K, listener: (message: MessageOf<K>) => void): void
  /** Called when messages of other processes may have been missed, once the next ones are sure to be heard. */
  onGap(listener: () => void): void
}

/**
 * Asks the primary whether content that is here belongs to a repository (law 3): not linked in it yet, or past recheck.
 * Its yes renews the link, its no hides it, and an outage changes nothing.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import { type BlobStore, StoreError } from '../store/blob-store.ts'
import type { LinkKind, RepositoryIndex } from '../store/repository-index.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { AskOptions, Upstream } from '../upstream/upstream.ts'
import { createSharedQuestions } from './share.ts'

export interface ConfirmDependencies {
  readonly upstream: Upstream
  readonly index: RepositoryIndex
  readonly blobs: BlobStore
}

/**
 * Resolves when the digest is linked in the repository by the primary's word of now. Throws `UpstreamError` (`absent`:
 * it is hidden), `StoreError` when the link cannot be written, or the `signal`'s reason.
 */
export type Confirm = (kind: LinkKind, name: RepositoryName, digest: Digest, ask: AskOptions) => Promise<void>

/** Without a signal: others wait for the answer too. */
type Ask = Omit<AskOptions, 'signal'>

/** A removal seen while the primary was asked makes its yes worthless; that happens once, not this often. */
const MAX_QUESTIONS = 3

export function createConfirm({ upstream, index, blobs }: ConfirmDependencies): Confirm {
  const questions = createSharedQuestions()

  async function askOnce(kind: LinkKind, name: RepositoryName, digest: Digest, ask: Ask): Promise<boolean> {
    const mark = index.mark()
    try {
      await (kind === 'layer'
        ? upstream.confirmBlob(name, digest, ask)
        : upstream.confirmManifest(name, digest, ask))
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'absent') await hide(kind, name, digest)
      throw error
    }
    // An adopted folder's link may name another digest than the one it lies under; its word is kept.
    const held = await index.link(name, kind, digest)
    return index.putLink(name, kind, digest, mark, held?.target)
  }

  /** The primary's no is the answer whatever this site can write down of it; the store has counted what failed. */
  async function hide(kind: LinkKind, name: RepositoryName, digest: Digest): Promise<void> {
    try {
      await index.hideLink(name, kind, digest)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
    }
  }

  async function confirm(kind: LinkKind, name: RepositoryName, digest: Digest, ask: Ask): Promise<void> {
    const unpin = blobs.pin(digest)
    try {
      for (let question = 1; question <= MAX_QUESTIONS; question++) {
        if (await askOnce(kind, name, digest, ask)) return
        // Where no link can be written at all, no question helps: the primary has said yes (a `StoreError`).
        await index.mayRemove()
      }
      throw new UpstreamError('unavailable', `${name}: ${digest} is being removed while it is asked for`)
    } finally {
      unpin()
    }
  }

  return (kind, name, digest, { credential, requestId, signal }) =>
    // A space stands in no kind, name or digest.
    questions.ask(`${kind} ${name} ${digest}`, credential, signal, () =>
      confirm(kind, name, digest, { credential, requestId }),
    )
}

/**
 * Canaries that are pushed make an event a second and instance, each saying again what the one before said: sites are
 * told of the first.
 */
import type { Notice } from '../replicator/notification.ts'
import { CANARY_TAG, createCanaryImage } from '../replicator/relay/canary-image.ts'
import type { RepositoryName } from './oci/reference.ts'

export interface CanaryEcho {
  /** Without the pushes of the canary image that repeat the one before. */
  without(notices: readonly Notice[]): readonly Notice[]
  /** What was passed on last may not be in the log. */
  forget(): void
}

/** One after anything else that was heard of their repository is a first again: what sites heard last is what is true. */
export function createCanaryEcho(repository: RepositoryName): CanaryEcho {
  const { digest } = createCanaryImage()
  let stands = false

  function isEcho(notice: Notice): boolean {
    const concerns = notice.repository === repository || notice.renamedTo === repository
    if (!concerns && notice.action !== 'rename') return false
    const stood = stands
    stands = concerns && notice.action === 'push' && notice.tag === CANARY_TAG && notice.digest === digest
    return stands && stood
  }

  return {
    without: (notices) => notices.filter((notice) => !isEcho(notice)),
    forget() {
      stands = false
    },
  }
}

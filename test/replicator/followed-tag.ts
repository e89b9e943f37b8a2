/** One tag at a site that follows a relay: what events say of it, and what the site makes of them. */
import { beforeEach, expect } from 'vitest'
import type { LogPage } from '../../replicator/relay/page.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { type FollowerScene, followerScene } from './follower-scene.ts'
import { APP, notice, tagNamed } from './inbox-world.ts'

export const OLD = digestOf(Buffer.from('old'))
export const NEW = digestOf(Buffer.from('new'))
export const LATEST = tagNamed('latest')

export const pushOf = (digest = NEW) => notice('push', APP, { tag: LATEST, digest })
/** Of other tags. */
export const events = (count: number) =>
  Array.from({ length: count }, () => notice('push', APP, { tag: 'x' }))

export interface FollowedTag {
  /** Of the test that runs. */
  readonly scene: FollowerScene
  /** Resolves when the follower has read the whole log and has begun an epoch. */
  following(): Promise<void>
  /** The primary is asked, and says so. */
  askPrimary(digest?: Digest): Promise<boolean>
  /** What may be served without asking. */
  confirmed(): Promise<Digest | undefined>
  /** The place in the log that was saved last. */
  position(): { readonly log?: string; readonly number?: number }
  pageNow(): Promise<LogPage>
}

/** For each test of the file a scene of its own. */
export function followTag(): FollowedTag {
  let scene: FollowerScene | undefined
  beforeEach(() => {
    scene = followerScene()
  })
  const now = (): FollowerScene => scene ?? expect.unreachable('made before each test')
  return {
    get scene() {
      return now()
    },
    async following() {
      now().start()
      now().relay.advance()
      await now().catchUp()
    },
    async askPrimary(digest = OLD) {
      const { freshness } = now()
      return await freshness.confirm(await freshness.observe(APP, LATEST), digest)
    },
    confirmed: () => now().freshness.confirmed(APP, LATEST),
    position: () => JSON.parse(now().cursors.at(-1) ?? '{}') as { log?: string; number?: number },
    async pageNow() {
      const page = await now().page()
      return 'gone' in page ? expect.unreachable() : page
    },
  }
}

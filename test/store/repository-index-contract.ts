/** What every repository index owes its callers: links, tags, and the primary's word for each. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { EXPIRED_AT_MS } from '../../src/store/expiries.ts'
import type { Store } from '../../src/store/store.ts'
import { nameOf, putBlob, putManifest, tagOf } from './store-fixture.ts'

type Subject = Pick<Store, 'blobs' | 'index'>

export interface RepositoryIndexSubject extends AsyncDisposable, Subject {
  /** The same content, opened anew. */
  reopen(): Promise<Subject>
}

export function repositoryIndexContract(make: () => Promise<RepositoryIndexSubject>): void {
  let subject: RepositoryIndexSubject
  beforeEach(async () => {
    subject = await make()
  })
  afterEach(() => subject[Symbol.asyncDispose]())
  const name = nameOf('team/app')
  const latest = tagOf('latest')

  describe('links', () => {
    it('belong to one repository and one kind, and survive a restart with the moment they were confirmed', async () => {
      const digest = await putBlob(subject, 'layer')
      const mark = subject.index.mark()

      expect(await subject.index.putLink(name, 'layer', digest, mark)).toBe(true)

      const link = { target: digest, confirmedAtMs: mark.atMs }
      expect(await subject.index.link(name, 'layer', digest)).toEqual(link)
      expect(await subject.index.link(name, 'manifest', digest)).toBeUndefined()
      expect(await subject.index.link(nameOf('team'), 'layer', digest)).toBeUndefined()
      expect(await subject.index.link(nameOf('team/app/x'), 'layer', digest)).toBeUndefined()
      expect(await (await subject.reopen()).index.link(name, 'layer', digest)).toEqual(link)
    })

    it('may name another digest than the one they are found under', async () => {
      const target = await putBlob(subject, 'pushed by sha512')
      const asked = await putBlob(subject, 'pushed by sha512', 'sha512')

      await subject.index.putLink(name, 'layer', asked, subject.index.mark(), target)

      expect(await subject.index.link(name, 'layer', asked)).toMatchObject({ target })
      expect(await (await subject.reopen()).index.link(name, 'layer', asked)).toMatchObject({ target })
    })

    it('are not written for a blob that is not here', async () => {
      const digest = await putBlob(subject, 'damaged')
      await subject.blobs.quarantine(digest)

      const refused = subject.index.putLink(name, 'layer', digest, subject.index.mark())

      await expect(refused).rejects.toMatchObject({ name: 'StoreError', kind: 'io' })
      expect(await subject.index.link(name, 'layer', digest)).toBeUndefined()
    })

    it('are gone once hidden, also after a restart, and come back only by a later word of the primary', async () => {
      const digest = await putBlob(subject, 'deleted layer')
      const before = subject.index.mark()
      await subject.index.putLink(name, 'layer', digest, before)

      await subject.index.hideLink(name, 'layer', digest)

      expect(await subject.index.link(name, 'layer', digest)).toBeUndefined()
      expect(await subject.index.putLink(name, 'layer', digest, before)).toBe(false)
      expect(await subject.index.link(name, 'layer', digest)).toBeUndefined()
      expect(await (await subject.reopen()).index.link(name, 'layer', digest)).toBeUndefined()
      expect(await subject.index.putLink(name, 'layer', digest, subject.index.mark())).toBe(true)
    })

    it('are overruled by a removal of what was never here', async () => {
      const digest = await putBlob(subject, 'not linked yet')
      const before = subject.index.mark()

      await subject.index.hideLink(name, 'layer', digest)

      expect(await subject.index.putLink(name, 'layer', digest, before)).toBe(false)
      expect(await subject.index.putLink(nameOf('team/other'), 'layer', digest, before)).toBe(true)
      expect(await subject.index.putLink(name, 'manifest', digest, before)).toBe(true)
    })
  })

  describe('links that expire', () => {
    const expired = (target: Digest) => ({ target, confirmedAtMs: EXPIRED_AT_MS })

    it('stay confirmed, longer ago than any recheck, until the primary says yes again', async () => {
      const digest = await putBlob(subject, 'deleted there')
      const other = await putBlob(subject, 'other')
      const mark = subject.index.mark()
      for (const one of [digest, other]) await subject.index.putLink(name, 'layer', one, mark)
      await subject.index.putLink(name, 'manifest', digest, mark)

      await subject.index.expireLink(name, 'layer', digest)

      const confirmed = { target: other, confirmedAtMs: mark.atMs }
      for (const { index } of [subject, await subject.reopen()]) {
        expect(await index.link(name, 'layer', digest)).toEqual(expired(digest))
        expect(await index.link(name, 'layer', other)).toEqual(confirmed)
        expect(await index.link(name, 'manifest', digest)).toEqual({ ...confirmed, target: digest })
      }
      const { index } = await subject.reopen()
      const after = index.mark()
      expect(await index.putLink(name, 'layer', digest, after)).toBe(true)
      const again = { target: digest, confirmedAtMs: after.atMs }
      expect(await index.link(name, 'layer', digest)).toEqual(again)
      expect(await (await subject.reopen()).index.link(name, 'layer', digest)).toEqual(again)
    })

    it('are not renewed, nor made, by an answer to a request that was sent before', async () => {
      const [held, absent] = [await putBlob(subject, 'held'), await putBlob(subject, 'absent')]
      await subject.index.putLink(name, 'layer', held, subject.index.mark())
      const before = subject.index.mark()

      for (const one of [held, absent]) await subject.index.expireLink(name, 'layer', one)

      expect(await subject.index.stands(name, 'layer', held, before)).toBe(false)
      for (const one of [held, absent]) {
        expect(await subject.index.putLink(name, 'layer', one, before)).toBe(false)
      }
      expect(await subject.index.link(name, 'layer', held)).toEqual(expired(held))
      expect(await subject.index.link(name, 'layer', absent)).toBeUndefined()
    })

    it('are not confirmed by it when the primary never confirmed them', async () => {
      const digest = await putBlob(subject, 'not linked')

      await subject.index.expireLink(name, 'layer', digest)
      await subject.index.expireRepository(name)

      expect(await subject.index.link(name, 'layer', digest)).toBeUndefined()
    })

    it('expire all at once with their repository, and no other’s, below it neither', async () => {
      const digest = await putBlob(subject, 'm')
      const others = [nameOf('team'), nameOf('team/app/inside'), nameOf('team/app-2')]
      const before = subject.index.mark()
      for (const one of [name, ...others]) {
        await subject.index.putLink(one, 'manifest', digest, before)
        await subject.index.putLink(one, 'layer', digest, before)
      }
      await subject.index.putTag(name, latest, digest, before)

      await subject.index.expireRepository(name)

      for (const { index } of [subject, await subject.reopen()]) {
        expect(await index.link(name, 'manifest', digest)).toEqual(expired(digest))
        expect(await index.link(name, 'layer', digest)).toEqual(expired(digest))
        expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: before.atMs })
        for (const other of others) {
          expect(await index.link(other, 'layer', digest)).toEqual({
            target: digest,
            confirmedAtMs: before.atMs,
          })
        }
      }
    })

    it('of a repository are renewed one by one by what is asked afterwards, and by nothing older', async () => {
      const [renewed, left] = [await putBlob(subject, 'renewed'), await putBlob(subject, 'left')]
      const before = subject.index.mark()
      for (const one of [renewed, left]) await subject.index.putLink(name, 'layer', one, before)
      await subject.index.expireRepository(name)

      expect(await subject.index.putLink(name, 'layer', renewed, before)).toBe(false)
      const after = { ...subject.index.mark(), atMs: Date.now() + 1000 }
      expect(await subject.index.putLink(name, 'layer', renewed, after)).toBe(true)

      for (const { index } of [subject, await subject.reopen()]) {
        expect(await index.link(name, 'layer', renewed)).toEqual({
          target: renewed,
          confirmedAtMs: after.atMs,
        })
        expect(await index.link(name, 'layer', left)).toEqual(expired(left))
      }
    })
  })

  describe('tags', () => {
    it('move, and survive a restart with the moment they were confirmed', async () => {
      await putManifest(subject, name, 'one', latest)
      const second = await putManifest(subject, name, 'two')
      const mark = subject.index.mark()

      expect(await subject.index.putTag(name, latest, second, mark)).toBe(true)

      const held = { digest: second, confirmedAtMs: mark.atMs }
      expect(await subject.index.tag(name, latest)).toEqual(held)
      expect(await (await subject.reopen()).index.tag(name, latest)).toEqual(held)
    })

    it('are not set to a manifest that is not linked in the repository', async () => {
      const digest = await putManifest(subject, nameOf('team/other'), 'elsewhere')

      const refused = subject.index.putTag(name, latest, digest, subject.index.mark())

      await expect(refused).rejects.toMatchObject({ name: 'StoreError', kind: 'io' })
      expect(await subject.index.tag(name, latest)).toBeUndefined()
    })

    it('go with their manifest, and those of other manifests stay', async () => {
      const gone = await putManifest(subject, name, 'gone', latest)
      const kept = await putManifest(subject, name, 'kept', tagOf('kept'))
      await subject.index.putTag(name, tagOf('v1'), gone, subject.index.mark())

      await subject.index.hideLink(name, 'manifest', gone)

      for (const { index } of [subject, await subject.reopen()]) {
        expect(await index.tag(name, latest)).toBeUndefined()
        expect(await index.tag(name, tagOf('v1'))).toBeUndefined()
        expect(await index.link(name, 'manifest', gone)).toBeUndefined()
        expect(await index.tag(name, tagOf('kept'))).toMatchObject({ digest: kept })
      }
    })

    it('that went with their manifest are not set to another by an older answer', async () => {
      const gone = await putManifest(subject, name, 'gone', latest)
      const other = await putManifest(subject, name, 'other')
      const before = subject.index.mark()

      await subject.index.hideLink(name, 'manifest', gone)

      expect(await subject.index.putTag(name, latest, other, before)).toBe(false)
      expect(await subject.index.putTag(name, latest, other, subject.index.mark())).toBe(true)
    })

    it('are not set by an answer that is older than the removal of tag or manifest', async () => {
      const first = await putManifest(subject, name, 'first', latest)
      const second = await putManifest(subject, name, 'second')
      const before = subject.index.mark()
      await subject.index.hideTag(name, latest)

      expect(await subject.index.putTag(name, latest, first, before)).toBe(false)
      expect(await subject.index.putTag(name, tagOf('other'), first, before)).toBe(true)
      expect(await subject.index.tag(name, latest)).toBeUndefined()

      await subject.index.hideLink(name, 'manifest', second)
      expect(await subject.index.putTag(name, tagOf('v2'), second, before)).toBe(false)
      expect(await subject.index.putTag(name, latest, first, subject.index.mark())).toBe(true)
    })

    it('that are doubted keep their value but not their confirmation, until the primary is asked again', async () => {
      const digest = await putManifest(subject, name, 'doubted', latest)
      const before = subject.index.mark()

      await subject.index.doubtTag(name, latest)
      subject.index.renewTag(name, latest, digest, before)

      const doubted = { digest, confirmedAtMs: undefined }
      expect(await subject.index.tag(name, latest)).toEqual(doubted)
      const { index } = await subject.reopen()
      expect(await index.tag(name, latest)).toEqual(doubted)
      const after = index.mark()
      index.renewTag(name, latest, digest, after)
      await expect.poll(() => index.tag(name, latest)).toEqual({ digest, confirmedAtMs: after.atMs })
    })

    it('are renewed only for the value they have', async () => {
      const old = await putManifest(subject, name, 'old')
      await putManifest(subject, name, 'new', latest)
      const held = await subject.index.tag(name, latest)

      subject.index.renewTag(name, latest, old, { ...subject.index.mark(), atMs: Date.now() + 1000 })

      expect(await subject.index.tag(name, latest)).toEqual(held)
    })
  })

  describe('the project behind a path', () => {
    it('is the same for every token that names it', async () => {
      expect(await subject.index.identify(name, 7, 1000)).toBe('same')
      expect(await subject.index.identify(name, 7, 2000)).toBe('same')
      expect(await subject.index.identify(name, 7, 500)).toBe('same')
      expect(await (await subject.reopen()).index.identify(name, 7, 900)).toBe('same')
    })

    it('hides what was held under the path when a later token names another', async () => {
      const inside = nameOf('team/app/inside')
      const digest = await putManifest(subject, name, 'of project 7', latest)
      const other = await putManifest(subject, inside, 'of another repository', latest)
      await subject.index.identify(name, 7, 1000)
      const before = subject.index.mark()

      expect(await subject.index.identify(name, 8, 2000)).toBe('replaced')

      expect(await subject.index.tag(name, latest)).toBeUndefined()
      expect(await subject.index.link(name, 'manifest', digest)).toBeUndefined()
      expect(await subject.index.tag(inside, latest)).toMatchObject({ digest: other })
      expect(await subject.index.putLink(name, 'manifest', digest, before)).toBe(false)
      expect(await subject.index.identify(name, 8, 2000)).toBe('same')
      const { index } = await subject.reopen()
      expect(await index.identify(name, 7, 1500)).toBe('older')
      expect(await index.identify(name, 7, 2000)).toBe('older')
      expect(await index.tag(name, latest)).toBeUndefined()
    })

    it('is replaced once when many requests bring the new token at the same time', async () => {
      await subject.index.identify(name, 7, 1000)

      const answers = await Promise.all(
        Array.from({ length: 10 }, () => subject.index.identify(name, 8, 2000)),
      )

      expect(answers.sort()).toEqual(['replaced', ...Array.from({ length: 9 }, () => 'same')])
    })
  })
}

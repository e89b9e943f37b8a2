/** Whether content that is here belongs to a repository, by the primary's word. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Confirm, createConfirm } from '../../src/fill/confirm.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { until } from '../support/wait.ts'
import { APP, type FillFixture, fillFixture, OTHER, someBytes, token } from './fill-fixture.ts'

let site: FillFixture
let confirm: Confirm
let bytes: Buffer
let digest: Digest
beforeEach(async () => {
  site = await fillFixture()
  confirm = createConfirm({ upstream: site.upstream, index: site.store.index, blobs: site.store.blobs })
  bytes = someBytes(100)
  digest = site.primary.hold([APP], bytes)
  await site.store.blobs.write(digest, bytes)
})
afterEach(() => site[Symbol.asyncDispose]())

const alice = { credential: token('alice') }

describe('content that is here', () => {
  it('is linked when the primary says yes', async () => {
    await confirm('layer', APP, digest, alice)

    expect(await site.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
    expect(site.primary.requests).toMatchObject([{ method: 'HEAD', authorization: 'Bearer alice' }])
  })

  it('is hidden when the primary says no', async () => {
    await site.store.index.putLink(OTHER, 'layer', digest, site.store.index.mark())

    await expect(confirm('layer', OTHER, digest, alice)).rejects.toMatchObject({ kind: 'absent' })

    expect(await site.store.index.link(OTHER, 'layer', digest)).toBeUndefined()
  })

  it.each([
    ['is away', 503, 'UNAVAILABLE', 'unavailable'],
    ['refuses the token', 401, 'UNAUTHORIZED', 'unauthorized'],
  ])('keeps its link when the primary %s', async (_title, status, code, kind) => {
    await site.store.index.putLink(APP, 'layer', digest, site.store.index.mark())
    site.primary.answer(() => ({ refuse: [status, code] }))

    await expect(confirm('layer', APP, digest, alice)).rejects.toMatchObject({ kind })

    expect(await site.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('is asked for once by many at the same time', async () => {
    await Promise.all(['a', 'b', 'c'].map((who) => confirm('layer', APP, digest, { credential: token(who) })))

    expect(site.primary.requests).toHaveLength(1)
  })

  it('is not refused to others because one token was', async () => {
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ authorization }) =>
      authorization === 'Bearer mallory'
        ? { before: gate.promise, refuse: [401, 'UNAUTHORIZED'] }
        : undefined,
    )
    const refused = confirm('layer', APP, digest, { credential: token('mallory') })
    const others = ['a', 'b'].map((who) => confirm('layer', APP, digest, { credential: token(who) }))
    gate.resolve()

    await expect(refused).rejects.toMatchObject({ kind: 'unauthorized' })
    await expect(Promise.all(others)).resolves.toBeDefined()
  })

  it('is answered for the others when the one who asked first leaves', async () => {
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ before: gate.promise }))
    const leaving = new AbortController()
    const first = confirm('layer', APP, digest, { ...alice, signal: leaving.signal })
    const second = confirm('layer', APP, digest, { credential: token('bob') })
    leaving.abort(new Error('gone'))
    await expect(first).rejects.toThrow('gone')
    gate.resolve()

    await second
    expect(site.primary.requests).toHaveLength(1)
  })

  it('is asked for again when a removal was seen while the primary was asked', async () => {
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ number }) =>
      number === 0 ? { before: gate.promise } : { refuse: [404, 'BLOB_UNKNOWN'] },
    )
    const confirming = confirm('layer', APP, digest, alice)
    confirming.catch(() => undefined)
    await until(() => site.primary.requests.length === 1, { what: 'the question' })

    await site.store.index.hideLink(APP, 'layer', digest)
    gate.resolve()

    await expect(confirming).rejects.toMatchObject({ kind: 'absent' })
    expect(await site.store.index.link(APP, 'layer', digest)).toBeUndefined()
  })
})

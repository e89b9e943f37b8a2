/** Law 3: who gets bytes of a running fill, on whose word, and where a link appears afterwards. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../support/wait.ts'
import type { BlobRequest } from './blob-primary.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  landed,
  MiB,
  OTHER,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

const refuses =
  (who: string, status = 401, code = 'UNAUTHORIZED') =>
  ({ authorization }: BlobRequest) =>
    authorization === `Bearer ${who}` ? ({ refuse: [status, code] } as const) : undefined

function asked(method: string): (string | undefined)[] {
  return site.primary.requests
    .filter((one) => one.method === method)
    .map((one) => `${one.name} ${one.authorization}`)
}

describe('a caller of another repository', () => {
  it('joins a running fill only after the primary has said yes to that caller', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP, OTHER], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ method }) =>
      method === 'GET' ? { pause: { after: MiB, until: gate.promise } } : undefined,
    )
    const first = await follow(site.fill, APP, digest)

    const other = await follow(site.fill, OTHER, digest, { credential: token('bob') })

    expect(asked('HEAD')).toEqual([`${OTHER} Bearer bob`])
    gate.resolve()
    expect((await readSpan(other)).equals(bytes)).toBe(true)
    for (const one of [first, other]) one.close()
    await landed(site.fill)
    expect(await site.receivedBytes()).toBe(bytes.length)
    expect(await site.store.index.link(OTHER, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('gets nothing of a blob that its own repository does not have, and no link appears there', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ method, name }) =>
      method === 'GET' && name === APP ? { pause: { after: MiB, until: gate.promise } } : undefined,
    )
    const entitled = await follow(site.fill, APP, digest)

    await expect(follow(site.fill, OTHER, digest)).rejects.toMatchObject({ kind: 'absent' })
    gate.resolve()
    await readSpan(entitled)
    entitled.close()
    await landed(site.fill)
    expect(await site.store.index.link(OTHER, 'layer', digest)).toBeUndefined()
  })

  it('waits for its own answer even when the fill is already verified', async () => {
    const digest = site.primary.hold([APP], someBytes(MiB))
    const publishing = Promise.withResolvers<void>()
    await site.restart({
      blobs: (blobs) => ({
        ...blobs,
        publish: async (path, named) => {
          await publishing.promise
          return blobs.publish(path, named)
        },
      }),
    })
    await pull(site.fill, APP, digest)

    await expect(follow(site.fill, OTHER, digest)).rejects.toMatchObject({ kind: 'absent' })
    publishing.resolve()
    await landed(site.fill)
  })

  it('is not refused because the one who started was', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([OTHER], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ method, name }) =>
      method === 'GET' && name === APP ? { before: gate.promise } : undefined,
    )
    const refused = follow(site.fill, APP, digest)
    await until(() => site.primary.gets().length === 1, { what: 'the first request' })
    const entitled = pull(site.fill, OTHER, digest)
    await until(() => asked('HEAD').length === 1, { what: 'the other repository’s question' })
    gate.resolve()

    await expect(refused).rejects.toMatchObject({ kind: 'absent' })
    expect((await entitled).equals(bytes)).toBe(true)
  })
})

describe('callers of one repository', () => {
  it('share the answer that opens the fill', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    const pulls = ['alice', 'bob', 'carol'].map((who) =>
      pull(site.fill, APP, digest, { credential: token(who) }),
    )

    expect((await Promise.all(pulls)).every((got) => got.equals(bytes))).toBe(true)
    expect(site.primary.requests).toHaveLength(1)
  })

  it.each([
    ['its token was refused', 401, 'UNAUTHORIZED', 'unauthorized'],
    ['it is denied', 403, 'DENIED', 'denied'],
    ['it asked too often', 429, 'TOOMANYREQUESTS', 'limited'],
  ])('do not share the starter’s failure when %s', async (_title, status, code, kind) => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    const refuse = refuses('mallory', status, code)
    site.primary.answer((request) => {
      const manner = refuse(request)
      return manner && { ...manner, before: gate.promise }
    })
    const refused = pull(site.fill, APP, digest, { credential: token('mallory') })
    await until(() => site.primary.requests.length === 1, { what: 'the first request' })
    const others = ['alice', 'bob'].map((who) => pull(site.fill, APP, digest, { credential: token(who) }))
    gate.resolve()

    await expect(refused).rejects.toMatchObject({ kind })
    expect((await Promise.all(others)).every((got) => got.equals(bytes))).toBe(true)
    await landed(site.fill)
    expect(await site.receivedBytes()).toBeLessThan(bytes.length + 1000)
  })

  it('are told at once and alike when the primary is away', async () => {
    const digest = site.primary.hold([APP], someBytes(MiB))
    site.primary.answer(() => ({ refuse: [503, 'UNAVAILABLE'] }))
    const pulls = ['alice', 'bob'].map((who) => pull(site.fill, APP, digest, { credential: token(who) }))

    const results = await Promise.allSettled(pulls)

    expect(results).toMatchObject([{ reason: { kind: 'unavailable' } }, { reason: { kind: 'unavailable' } }])
    expect(site.primary.requests).toHaveLength(1)
  })

  it('keep their fill when the one who started it leaves before the primary has answered', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ before: gate.promise }))
    const leaving = new AbortController()
    const starter = pull(site.fill, APP, digest, { signal: leaving.signal })
    await until(() => site.primary.requests.length === 1, { what: 'the first request' })
    const other = pull(site.fill, APP, digest, { credential: token('bob') })

    leaving.abort(new Error('gone'))
    await expect(starter).rejects.toThrow('gone')
    gate.resolve()

    expect((await other).equals(bytes)).toBe(true)
    expect(site.primary.requests).toHaveLength(1)
  })
})

describe('a blob removed from a repository during its fill', () => {
  it('is given to those who follow, and not linked there', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP, OTHER], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ method }) =>
      method === 'GET' ? { pause: { after: MiB, until: gate.promise } } : undefined,
    )
    const here = await follow(site.fill, APP, digest)
    const there = await follow(site.fill, OTHER, digest)

    await site.store.index.hideLink(APP, 'layer', digest)
    gate.resolve()
    expect((await readSpan(here)).equals(bytes)).toBe(true)
    for (const one of [here, there]) one.close()
    await landed(site.fill)

    expect(await site.store.index.link(APP, 'layer', digest)).toBeUndefined()
    expect(await site.store.index.link(OTHER, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('is asked for again by the next caller, whatever was confirmed before', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ method }) =>
      method === 'GET' ? { pause: { after: MiB, until: gate.promise } } : { refuse: [404, 'BLOB_UNKNOWN'] },
    )
    const former = await follow(site.fill, APP, digest)
    await site.store.index.hideLink(APP, 'layer', digest)
    site.primary.answer(() => ({ refuse: [404, 'BLOB_UNKNOWN'] }))

    await expect(follow(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'absent' })
    gate.resolve()
    expect((await readSpan(former)).equals(bytes)).toBe(true)
    former.close()
    await landed(site.fill)
  })
})

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { nameOf } from '../store/store-fixture.ts'
import { randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { createRegistryApi, locationOf, type RegistryApi } from '../support/registry-api.ts'
import { startWriteSite, type WriteSite } from './write-site.ts'

const MIB = 1024 * 1024
const NAME = nameOf('team/app')

describe('an upload through the site to a real registry', () => {
  let primary: DockerRegistry
  let direct: RegistryApi
  let site: WriteSite
  beforeAll(async () => {
    primary = await startDockerRegistry()
    direct = createRegistryApi(primary.url)
  })
  afterAll(async () => {
    await direct[Symbol.asyncDispose]()
    await primary[Symbol.asyncDispose]()
  })
  beforeEach(async () => {
    site = await startWriteSite(primary.url)
  })
  afterEach(() => site[Symbol.asyncDispose]())

  async function expectBothHave(digest: Digest, name: RepositoryName = NAME): Promise<void> {
    expect((await direct.headBlob(name, digest)).status).toBe(200)
    expect(await site.store.blobs.stat(digest)).toBeDefined()
    expect((await site.store.index.link(name, 'layer', digest))?.confirmedAtMs).toBeDefined()
  }

  async function expectOnlyPrimaryHas(digest: Digest): Promise<void> {
    expect((await direct.headBlob(NAME, digest)).status).toBe(200)
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    expect(await site.store.index.link(NAME, 'layer', digest)).toBeUndefined()
  }

  it('is here as soon as the client hears that it is done', async () => {
    const content = await randomContent(5 * MIB + 3, { seed: 'streamed' })

    const done = await site.api.pushBlob(NAME, content)

    expect(done.status).toBe(201)
    expect(done.headers['geo-registry-source']).toBe('primary')
    expect(done.headers['docker-content-digest']).toBe(content.digest)
    expect(done.headers['location']).toBe(`/v2/${NAME}/blobs/${content.digest}`)
    await expectBothHave(content.digest)
    expect(await readdir(site.spools)).toEqual([])
  })

  it('in chunks, the last with the final request, is here', async () => {
    const bytes = randomBytes(3000)
    const started = await site.api.startUpload(NAME)
    const first = await site.api.patchUpload(NAME, locationOf(started), bytes.subarray(0, 1000), {
      start: 0,
      end: 999,
    })
    const second = await site.api.patchUpload(NAME, locationOf(first), bytes.subarray(1000, 2000), {
      start: 1000,
      end: 1999,
    })

    const done = await site.api.finishUpload(NAME, locationOf(second), digestOf(bytes), bytes.subarray(2000))

    expect([first.headers['range'], second.headers['range']]).toEqual(['0-999', '0-1999'])
    expect(done.status).toBe(201)
    await expectBothHave(digestOf(bytes))
  })

  it('by its sha512 digest is here under that digest', async () => {
    const bytes = randomBytes(3000)
    const digest = digestOf(bytes, 'sha512')
    const started = await site.api.startUpload(NAME)

    const done = await site.api.finishUpload(NAME, locationOf(started), digest, bytes)

    expect(done.status).toBe(201)
    expect(await site.store.blobs.read(digest, MIB)).toEqual(bytes)
    expect(await site.store.index.link(NAME, 'layer', digest)).toBeDefined()
  })

  it('of an empty blob is here', async () => {
    const digest = digestOf(Buffer.alloc(0))
    const started = await site.api.startUpload(NAME)

    expect((await site.api.finishUpload(NAME, locationOf(started), digest)).status).toBe(201)
    await expectBothHave(digest)
  })

  it('with the wrong digest is refused as the primary says, and nothing of it stays', async () => {
    const bytes = randomBytes(2000)
    const claimed = digestOf(Buffer.from('other'))
    const started = await site.api.startUpload(NAME)
    const patched = await site.api.patchUpload(NAME, locationOf(started), bytes)

    const done = await site.api.finishUpload(NAME, locationOf(patched), claimed)

    expect(done.status).toBe(400)
    expect(done.body.toString()).toContain('DIGEST_INVALID')
    expect(await site.store.blobs.stat(claimed)).toBeUndefined()
    expect(await site.store.blobs.stat(digestOf(bytes))).toBeUndefined()
    await vi.waitFor(async () => expect(await readdir(site.spools)).toEqual([]))
  })

  it('that the client cancels is gone at both ends', async () => {
    const started = await site.api.startUpload(NAME)
    const patched = await site.api.patchUpload(NAME, locationOf(started), randomBytes(2000))

    const cancelled = await site.api.request('DELETE', locationOf(patched))

    expect(cancelled.status).toBe(204)
    expect((await site.api.request('GET', locationOf(patched))).status).toBe(404)
    await vi.waitFor(async () => expect(await readdir(site.spools)).toEqual([]))
  })

  it('that was begun before this site restarted goes on, only without a copy', async () => {
    const bytes = randomBytes(2000)
    const started = await direct.startUpload(NAME)
    const { pathname, search } = new URL(locationOf(started), primary.url)

    const patched = await site.api.patchUpload(NAME, pathname + search, bytes)
    const done = await site.api.finishUpload(NAME, locationOf(patched), digestOf(bytes))

    expect(done.status).toBe(201)
    await expectOnlyPrimaryHas(digestOf(bytes))
  })

  it('by mount links what is already here, and nothing that is not', async () => {
    const here = await randomContent(1000, { seed: 'here' })
    const elsewhere = await randomContent(1000, { seed: 'elsewhere' })
    await site.api.pushBlob(NAME, here)
    await direct.pushBlob(NAME, elsewhere)
    const other = nameOf('team/other')

    const mounts = [here, elsewhere].map(({ digest }) =>
      site.api.startUpload(other, `?mount=${digest}&from=${NAME}`),
    )

    expect((await Promise.all(mounts)).map(({ status }) => status)).toEqual([201, 201])
    await expectBothHave(here.digest, other)
    expect(await site.store.index.link(other, 'layer', elsewhere.digest)).toBeUndefined()
  })

  it('of two blobs at once keeps them apart', async () => {
    const contents = await Promise.all([1, 2, 3, 4].map((seed) => randomContent(2 * MIB, { seed })))

    const done = await Promise.all(contents.map((content) => site.api.pushBlob(NAME, content)))

    expect(done.map(({ status }) => status)).toEqual([201, 201, 201, 201])
    for (const { digest } of contents) await expectBothHave(digest)
  })

  it('to a session the primary does not know is answered before its body has come', async () => {
    const socket = connect(site.port, '127.0.0.1')
    socket.write(
      `PATCH /v2/${NAME}/blobs/uploads/3f1d9a1e-0000-4000-8000-000000000000?_state=x HTTP/1.1\r\nHost: x\r\nContent-Length: ${1024 * MIB}\r\n\r\n`,
    )
    socket.write(randomBytes(1000))

    const [head] = await once(socket, 'data')
    socket.destroy()

    expect(String(head)).toMatch(/^HTTP\/1\.1 40[04] /)
    expect(String(head).toLowerCase()).toContain('connection: close')
  })

  it('goes to the primary while the store cannot keep it', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, {
      blobs: (real) => ({ ...real, hasRoom: () => Promise.resolve(false) }),
    })
    const content = await randomContent(2 * MIB, { seed: 'no room' })

    expect((await site.api.pushBlob(NAME, content)).status).toBe(201)
    await expectOnlyPrimaryHas(content.digest)
    expect(await site.captures('dropped')).toBe(1)
  })

  it('is answered within the wait when publishing takes longer, and is here afterwards', async () => {
    const disk = Promise.withResolvers<void>()
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, {
      publishWaitMs: 30,
      blobs: (real) => ({
        ...real,
        publish: (path, digest) => disk.promise.then(() => real.publish(path, digest)),
      }),
    })
    const content = await randomContent(1000, { seed: 'slow' })

    const done = await site.api.pushBlob(NAME, content)

    expect(done.status).toBe(201)
    await expectOnlyPrimaryHas(content.digest)
    disk.resolve()
    await site.close()
    await expectBothHave(content.digest)
  })

  it('is refused with 503 and the word that reads go on while the primary is away', async () => {
    const started = await site.api.startUpload(NAME)
    await primary.stop()
    try {
      const answer = await site.api.patchUpload(NAME, locationOf(started), Readable.from([randomBytes(100)]))

      expect(answer.status).toBe(503)
      expect(answer.headers['retry-after']).toMatch(/^\d+$/)
      expect(answer.body.toString()).toMatch(/UNAVAILABLE.*pulls/)
    } finally {
      await primary.start()
    }
  })
})

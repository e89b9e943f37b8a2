/** "Bad input", the client's side: refused in the words of the specification, and nothing touches the disk. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type Link, startLink } from '../support/link.ts'
import { pushImage } from '../support/push-image.ts'
import { type Answer, createRegistryApi, locationOf, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { openRaw, rawRequest, sendRaw } from './raw-http.ts'
import { expectSoundStore, treeOf } from './store-files.ts'

const NAME = 'team/app'
const DIGEST = `sha256:${'a'.repeat(64)}`
const MANIFEST_MAX_BYTES = 4 * 1024 * 1024

let primary: DockerRegistry
let link: Link
let site: GeoRegistry
let api: RegistryApi
let image: Image
let before: string[]

beforeAll(async () => {
  primary = await startDockerRegistry()
  link = await startLink({ target: primary.url })
  site = await startGeoRegistry({ primary: link.url, config: { auth: { none: { push: true } } } })
  api = createRegistryApi(site.url)
  image = await buildImage({ seed: 'held', layers: [5000] })
  await pushImage(api, NAME, 'v1', image)
})
afterAll(async () => {
  for (const owned of [api, site, link, primary]) await owned[Symbol.asyncDispose]()
})
beforeEach(async () => {
  before = await treeOf(site.root)
})

const said = ({ status, body }: Pick<Answer, 'status' | 'body'>) => `${status} ${errorCodesOf(body).join()}`
const expectUntouched = async () => expect(await treeOf(site.root)).toEqual(before)

describe('a path outside the grammar', () => {
  const long = 'a'.repeat(10_000)
  it.each([
    ['/v2/team%2Fapp/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/..%2F..%2Fetc/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/../../etc/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/team/../app/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/team/./app/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2//team/app/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/team/app%00/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/Team/App/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/team/_layers/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/t%C3%A9am/manifests/v1', 400, 'NAME_INVALID'],
    [`/v2/${long}/manifests/v1`, 400, 'NAME_INVALID'],
    ['/v2/team/app/manifests/..', 400, 'TAG_INVALID'],
    ['/v2/team/app/manifests/..%2F..%2Fv1', 400, 'TAG_INVALID'],
    ['/v2/team/app/manifests/v1%00', 400, 'TAG_INVALID'],
    ['/v2/team/app/manifests/.v1', 400, 'TAG_INVALID'],
    [`/v2/team/app/manifests/${long}`, 400, 'TAG_INVALID'],
    ['/v2/team/app/manifests/md5:d41d8cd98f00b204e9800998ecf8427e', 400, 'DIGEST_INVALID'],
    [`/v2/team/app/manifests/${DIGEST.toUpperCase()}`, 400, 'DIGEST_INVALID'],
    [`/v2/team/app/blobs/sha256:${'A'.repeat(64)}`, 400, 'DIGEST_INVALID'],
    ['/v2/team/app/blobs/sha256:..%2F..%2F..%2Fetc%2Fpasswd', 400, 'DIGEST_INVALID'],
    [`/v2/team/app/blobs/${DIGEST}0`, 400, 'DIGEST_INVALID'],
    [`/v2/team/app/blobs/sha1:${'a'.repeat(40)}`, 400, 'DIGEST_INVALID'],
    ['/v2/team/app/blobs/..', 400, 'DIGEST_INVALID'],
    ['/v2/team/app/referrers/v1', 400, 'DIGEST_INVALID'],
    ['/v2/team/app', 404, 'NOT_FOUND'],
    ['/v1/_ping', 404, 'NOT_FOUND'],
    ['/../etc/passwd', 404, 'NOT_FOUND'],
  ])('is refused as it stands: %.60s', async (target, status, code) => {
    const asked = link.counts().up

    for (const method of ['GET', 'PUT', 'DELETE']) {
      const answer = await sendRaw(site.port, rawRequest(method, target, { 'content-length': '0' }))
      // No manifest has such a tag: who reads it is told so, who writes it what is wrong.
      const isAbsent = method === 'GET' && code === 'TAG_INVALID'
      const wanted = isAbsent ? [[404], 'MANIFEST_UNKNOWN'] : [[status], code]
      expect([answer.statuses, answer.code]).toEqual(wanted)
    }

    expect(link.counts().up - asked).toBeLessThan(200) // No more than a ping of the warm connection.
    await expectUntouched()
  })

  it('is no HTTP with a NUL, a control character, a space or a letter with an accent in it', async () => {
    for (const character of ['\0', '\x01', ' ', '\xe9']) {
      const answer = await sendRaw(site.port, rawRequest('GET', `/v2/a${character}b/manifests/v1`))
      expect(answer.statuses).toEqual([400])
    }
    await expectUntouched()
  })

  it.each([
    ['?mount=sha256:..%2F..%2Fetc&from=team/app'],
    [`?mount=${DIGEST}&from=..%2F..%2Fetc`],
    [`?digest=md5:abc`],
  ])('is no better in the query of an upload: %s', async (query) => {
    const answer = await api.startUpload(NAME, query)

    // The primary's word: it begins an ordinary session for a mount that cannot be, and refuses the rest.
    expect(answer.status).toBeOneOf([202, 400, 404])
    await expectUntouched()
  })
})

describe('a manifest', () => {
  const put = (reference: string, bytes: Buffer, type = image.mediaType) =>
    api.putManifest(NAME, reference, bytes, type)

  it('of more than 4 MiB is 413, with or without a length, and the primary is not asked', async () => {
    const bytes = Buffer.alloc(MANIFEST_MAX_BYTES + 1, ' ')
    const asked = link.counts().up
    const declared = await put('big', bytes)
    const chunked = await sendRaw(
      site.port,
      `${rawRequest('PUT', `/v2/${NAME}/manifests/big`, { 'transfer-encoding': 'chunked' })}${bytes.length.toString(16)}\r\n${bytes}\r\n0\r\n\r\n`,
    )

    expect(said(declared)).toBe('413 MANIFEST_INVALID')
    expect([chunked.statuses, chunked.code]).toEqual([[413], 'MANIFEST_INVALID'])
    expect(link.counts().up - asked).toBeLessThan(1000)
    await expectUntouched()
  })

  it('that is not what its digest says is 400', async () => {
    expect(said(await put(DIGEST, image.bytes))).toBe('400 DIGEST_INVALID')
    await expectUntouched()
  })

  it('that is no manifest, or names blobs the primary has not, is refused by it and kept nowhere', async () => {
    const other = await buildImage({ seed: 'not pushed', layers: [100] })

    expect((await put('bad', Buffer.from('{"schemaVersion":2'))).status).toBe(400)
    expect((await put('bad', Buffer.from('{"schemaVersion":2}'))).status).toBe(400)
    expect(said(await put('bad', other.bytes))).toMatch(/^400 .*BLOB_UNKNOWN/)
    await expectUntouched()
  })

  it('that ends before its length is not sent on', async () => {
    const asked = link.counts().up
    await using connection = await openRaw(site.port)
    const head = { 'content-length': String(image.bytes.length), 'content-type': image.mediaType }
    connection.socket.write(rawRequest('PUT', `/v2/${NAME}/manifests/short`, head))
    connection.socket.end(image.bytes.subarray(0, -1))
    await until(() => connection.isClosed, { what: 'the connection to be given up' })

    expect(connection.statuses()).not.toContain(201)
    expect(link.counts().up - asked).toBeLessThan(1000)
    expect((await api.getManifest(NAME, 'short')).status).toBe(404)
    await expectUntouched()
  })
})

describe('an upload', () => {
  it('whose bytes are not what its digest says is the primary’s 400, and kept nowhere', async () => {
    const session = locationOf(await api.startUpload(NAME))
    const patched = await api.patchUpload(NAME, session, Buffer.from('some bytes'))
    const put = await api.finishUpload(NAME, locationOf(patched), digestOf(Buffer.from('other bytes')))

    expect(said(put)).toBe('400 DIGEST_INVALID')
    await until(() => expectUntouched().then(() => true), { what: 'the copy to be gone' })
  })

  it('that ends before its length is no blob anywhere, and its session goes on', async () => {
    const bytes = Buffer.alloc(100_000, 'x')
    const digest = digestOf(bytes)
    const session = locationOf(await api.startUpload(NAME))
    const { pathname, search } = new URL(session, site.url)
    await using connection = await openRaw(site.port)
    const head = { 'content-length': '100000', 'content-type': 'application/octet-stream' }
    connection.socket.write(rawRequest('PUT', `${pathname}${search}&digest=${digest}`, head))
    connection.socket.end(bytes.subarray(1))
    await until(() => connection.isClosed, { what: 'the connection to be given up' })

    expect(connection.statuses()).not.toContain(201)
    expect((await api.headBlob(NAME, digest)).status).toBe(404)
    await api.request('DELETE', session, { headers: { 'content-length': '0' } })
    await until(() => expectUntouched().then(() => true), { what: 'the copy to be gone' })
  })

  it('whose chunk does not begin where the last one ended is the primary’s to judge, and never kept wrong', async () => {
    const session = locationOf(await api.startUpload(NAME))
    const patched = await api.patchUpload(NAME, session, Buffer.from('0123456789'), { start: 0, end: 9 })
    const skipped = await api.patchUpload(NAME, locationOf(patched), Buffer.from('56789'), {
      start: 15,
      end: 19,
    })
    // The specification says 416; Distribution 2.8 reads no Content-Range and appends.
    expect(skipped.status).toBe(202)
    const digest = digestOf(Buffer.from('012345678956789'))

    expect((await api.finishUpload(NAME, locationOf(skipped), digest)).status).toBe(201)
    expect((await api.getBlob(NAME, digest)).digest).toBe(digest)
    await expectSoundStore(site.root)
  })
})

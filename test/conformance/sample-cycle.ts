/**
 * The life of a sample: pushed, listed, read by every name it has, deleted. Each answer must be right at once, so
 * through a secondary this is a test that everybody reads what was just written.
 */
import type { Digest } from '../../src/oci/digest.ts'
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import type { Answer } from '../support/registry-api.ts'
import {
  type Cases,
  closing,
  expectBytes,
  expectEqual,
  expectLocation,
  expectStatus,
  type Registry,
} from './cases.ts'
import type { Sample, SampleBlob, SampleManifest } from './samples.ts'

const ACCEPT = { accept: FULL_ACCEPT }
const INDEX = 'application/vnd.oci.image.index.v1+json'

export async function checkSample({ check }: Cases, repository: string, sample: Sample): Promise<void> {
  const { name: group, blobs, manifests } = sample
  const path = `/v2/${repository}`
  const tagged = manifests.filter(({ tag }) => tag !== undefined)
  const subjects = [...new Set(manifests.flatMap(({ subject }) => subject ?? []))]

  for (const [at, blob] of blobs.entries()) {
    await check(group, `push blob ${at}`, (registry) => pushBlob(registry, repository, blob))
  }
  for (const [at, manifest] of manifests.entries()) {
    await check(group, `push manifest ${at}`, (registry) => pushManifest(registry, repository, manifest))
    const reference = manifest.tag ?? manifest.digest
    await check(group, `push manifest ${at} again`, async ({ send }) =>
      expectStatus(await putManifest(send, repository, reference, manifest), 201),
    )
  }
  await check(group, 'the tag list has every tag', async ({ send }) => {
    const tags = await tagsOf(send, path)
    for (const { tag = '' } of tagged)
      if (!tags.includes(tag)) throw new Error(`no ${tag} in ${tags.join(' ')}`)
  })
  for (const method of ['HEAD', 'GET'] as const) {
    for (const [at, manifest] of manifests.entries()) {
      for (const reference of [manifest.tag ?? [], manifest.digest].flat()) {
        const kind = reference === manifest.digest ? 'digest' : 'tag'
        await check(group, `${method} manifest ${at} by ${kind}`, async ({ send }) =>
          expectManifest(
            await send(method, `${path}/manifests/${reference}`, { headers: ACCEPT }),
            manifest,
            method,
          ),
        )
      }
    }
    for (const [at, blob] of blobs.entries()) {
      await check(group, `${method} blob ${at}`, async ({ send }) =>
        expectBlob(await send(method, `${path}/blobs/${blob.digest}`), blob, method),
      )
    }
  }
  for (const [at, subject] of subjects.entries()) {
    await checkReferrers({ check }, { group, at, path, subject, all: manifests })
  }
  for (const { tag = '' } of tagged) {
    await check(group, `delete tag ${tag}`, async ({ send }) => {
      expectStatus(await send('DELETE', `${path}/manifests/${tag}`), 202)
    })
    await check(group, `the deleted tag ${tag} is gone`, async ({ send }) => {
      expectStatus(await send('HEAD', `${path}/manifests/${tag}`, { headers: ACCEPT }), 404)
      expectStatus(await send('GET', `${path}/manifests/${tag}`, { headers: ACCEPT }), 404)
      if ((await tagsOf(send, path)).includes(tag)) throw new Error(`${tag} is still listed`)
    })
  }
  for (const [at, manifest] of [...manifests.entries()].reverse()) {
    const target = `${path}/manifests/${manifest.digest}`
    await check(group, `delete manifest ${at}`, async ({ send }) =>
      expectStatus(await send('DELETE', target), 202),
    )
    await check(group, `the deleted manifest ${at} is gone`, async ({ send }) => {
      expectStatus(await send('HEAD', target, { headers: ACCEPT }), 404)
      expectStatus(await send('GET', target, { headers: ACCEPT }), 404)
      if (manifest.tag !== undefined) {
        expectStatus(await send('GET', `${path}/manifests/${manifest.tag}`, { headers: ACCEPT }), 404)
      }
    })
    if (manifest.subject === undefined) continue
    await check(group, `the deleted manifest ${at} refers to nothing`, async ({ send }) => {
      const found = await referrersOf(send, path, manifest.subject ?? manifest.digest)
      expectEqual('referrers with it', found.filter(({ digest }) => digest === manifest.digest).length, 0)
    })
  }
  for (const [at, blob] of blobs.entries()) {
    const target = `${path}/blobs/${blob.digest}`
    await check(group, `delete blob ${at}`, async ({ send }) =>
      expectStatus(await send('DELETE', target), 202),
    )
    await check(group, `the deleted blob ${at} is gone`, async ({ send }) => {
      expectStatus(await send('HEAD', target), 404)
      expectStatus(await send('GET', target), 404)
    })
  }
}

interface Referred {
  readonly group: string
  readonly at: number
  readonly path: string
  readonly subject: Digest
  readonly all: readonly SampleManifest[]
}

async function checkReferrers({ check }: Pick<Cases, 'check'>, referred: Referred): Promise<void> {
  const { group, at, path, subject } = referred
  const wanted = referred.all.filter((manifest) => manifest.subject === subject)
  await check(group, `referrers of subject ${at}`, async ({ send }) => {
    const found = await referrersOf(send, path, subject)
    for (const manifest of wanted) {
      const listed = found.find(({ digest }) => digest === manifest.digest)
      expectEqual('mediaType', listed?.mediaType, manifest.mediaType)
      expectEqual('size', listed?.size, manifest.bytes.length)
      expectEqual('artifactType', listed?.artifactType, manifest.artifactType)
      if (manifest.annotations) expectEqual('annotations', listed?.annotations, manifest.annotations)
    }
    expectEqual('how many', found.length, wanted.length)
  })
  for (const artifactType of new Set(wanted.flatMap((manifest) => manifest.artifactType ?? []))) {
    await check(group, `referrers of subject ${at} of type ${artifactType}`, async ({ send }) => {
      const query = `?artifactType=${encodeURIComponent(artifactType)}`
      const answer = expectStatus(await send('GET', `${path}/referrers/${subject}${query}`), 200)
      const digests = new Set(listOf(answer).map(({ digest }) => digest))
      for (const { digest } of wanted.filter((manifest) => manifest.artifactType === artifactType)) {
        if (!digests.has(digest)) throw new Error(`${digest} is missing`)
      }
      // A registry may leave the filter to the client; one that applied it says so.
      const filtered = /\bartifactType\b/.test(answer.headers['oci-filters-applied'] ?? '')
      if (filtered && listOf(answer).some((found) => found.artifactType !== artifactType)) {
        throw new Error('the filter is said to be applied, and was not')
      }
    })
  }
}

async function pushBlob(
  { send }: Registry,
  repository: string,
  { digest, bytes }: SampleBlob,
): Promise<void> {
  const started = expectStatus(await send('POST', `/v2/${repository}/blobs/uploads/`), 202)
  const put = await send('PUT', closing(expectLocation(started), digest), {
    headers: { 'content-type': 'application/octet-stream' },
    body: bytes,
  })
  expectStatus(put, 201)
  expectLocation(put)
}

async function pushManifest({ send }: Registry, repository: string, manifest: SampleManifest): Promise<void> {
  const answer = await putManifest(send, repository, manifest.tag ?? manifest.digest, manifest)
  expectStatus(answer, 201)
  expectEqual('Docker-Content-Digest', answer.headers['docker-content-digest'], manifest.digest)
  const there = await send('GET', expectLocation(answer), { headers: ACCEPT })
  expectManifest(there, manifest, 'GET')
  if (manifest.subject !== undefined) {
    expectEqual('OCI-Subject', answer.headers['oci-subject'], manifest.subject)
  }
}

export async function putManifest(
  send: Registry['send'],
  repository: string,
  reference: string,
  { bytes, mediaType }: Pick<SampleManifest, 'bytes' | 'mediaType'>,
): Promise<Answer> {
  return await send('PUT', `/v2/${repository}/manifests/${reference}`, {
    headers: { 'content-type': mediaType },
    body: bytes,
  })
}

function expectManifest(answer: Answer, manifest: SampleManifest, method: string): void {
  expectStatus(answer, 200)
  expectEqual('Content-Type', answer.headers['content-type'], manifest.mediaType)
  expectEqual('Content-Length', answer.headers['content-length'], String(manifest.bytes.length))
  expectEqual('Docker-Content-Digest', answer.headers['docker-content-digest'], manifest.digest)
  expectBytes(answer, method === 'HEAD' ? Buffer.alloc(0) : manifest.bytes)
}

export function expectBlob(answer: Answer, { digest, bytes }: SampleBlob, method: string): void {
  expectStatus(answer, 200)
  expectEqual('Content-Length', answer.headers['content-length'], String(bytes.length))
  expectEqual('Docker-Content-Digest', answer.headers['docker-content-digest'], digest)
  expectBytes(answer, method === 'HEAD' ? Buffer.alloc(0) : bytes)
}

interface Listed {
  readonly digest: string
  readonly mediaType: string
  readonly size: number
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

export async function referrersOf(
  send: Registry['send'],
  path: string,
  subject: string,
): Promise<readonly Listed[]> {
  const answer = expectStatus(await send('GET', `${path}/referrers/${subject}`), 200)
  expectEqual('Content-Type', answer.headers['content-type'], INDEX)
  return listOf(answer)
}

function listOf(answer: Answer): readonly Listed[] {
  const { manifests } = JSON.parse(answer.body.toString()) as { readonly manifests: readonly Listed[] | null }
  return manifests ?? [] // olareg's empty list.
}

export async function tagsOf(
  send: Registry['send'],
  path: string,
  query: string = '',
): Promise<readonly string[]> {
  const answer = await send('GET', `${path}/tags/list${query}`)
  if (answer.status === 404) return [] // Nothing is left in the repository.
  expectStatus(answer, 200)
  return (JSON.parse(answer.body.toString()) as { readonly tags: readonly string[] | null }).tags ?? []
}

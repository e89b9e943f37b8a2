/** What is listed under which name, and what is answered for names that mean nothing. */
import { createHash } from 'node:crypto'
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import { type Cases, expectBytes, expectEqual, expectErrors, expectLocation, expectStatus } from './cases.ts'
import { putManifest, referrersOf, tagsOf } from './sample-cycle.ts'
import { allSamples, type SampleManifest } from './samples.ts'

const ACCEPT = { accept: FULL_ACCEPT }
const ABSENT = `sha256:${createHash('sha256').update('never pushed').digest('hex')}`

export async function checkPing({ check }: Cases): Promise<void> {
  await check('ping', 'GET /v2/', async ({ send }) => expectStatus(await send('GET', '/v2/'), 200))
}

export async function checkEmpty({ check }: Cases, repository: string): Promise<void> {
  const path = `/v2/${repository}`
  await check('empty', 'tag list', async ({ send }) => {
    const answer = expectStatus(await send('GET', `${path}/tags/list`), 200, 404)
    if (answer.status === 404) expectErrors(answer)
  })
  await check('empty', 'referrers', async ({ send }) =>
    expectEqual('referrers', await referrersOf(send, path, ABSENT), []),
  )
  for (const method of ['HEAD', 'GET']) {
    for (const target of ['manifests/absent', `manifests/${ABSENT}`, `blobs/${ABSENT}`]) {
      await check('empty', `${method} ${target}`, async ({ send }) => {
        const answer = expectStatus(await send(method, `${path}/${target}`, { headers: ACCEPT }), 404)
        if (method === 'GET') expectErrors(answer)
      })
    }
  }
  for (const target of ['manifests/absent', `manifests/${ABSENT}`, `blobs/${ABSENT}`]) {
    await check('empty', `DELETE ${target}`, async ({ send }) =>
      expectStatus(await send('DELETE', `${path}/${target}`), 404),
    )
  }
}

/** Not digests, though they look like some. */
const MALFORMED = [
  'sha256:baddigeststring',
  'sha256:',
  'sha256:ABCDEF',
  `sha512:${'0'.repeat(64)}`,
  'sha256+b64:abc',
]

export async function checkMalformedDigests({ check }: Cases, repository: string): Promise<void> {
  const [image] = sampleManifests('image')
  for (const digest of MALFORMED) {
    const encoded = encodeURIComponent(digest)
    for (const kind of ['manifests', 'blobs']) {
      await check('malformed digests', `GET ${kind}/${digest}`, async ({ send }) =>
        expectStatus(
          await send('GET', `/v2/${repository}/${kind}/${encoded}`, { headers: ACCEPT }),
          400,
          404,
        ),
      )
    }
    await check('malformed digests', `PUT manifests/${digest}`, async ({ send }) =>
      expectStatus(await putManifest(send, repository, encoded, image), 400),
    )
    await check('malformed digests', `upload of ${digest}`, async ({ send }) =>
      expectStatus(
        await send('POST', `/v2/${repository}/blobs/uploads/?digest=${encoded}`, {
          headers: { 'content-type': 'application/octet-stream' },
          body: Buffer.from('something'),
        }),
        400,
      ),
    )
  }
  await check('malformed digests', 'a manifest under the digest of another', async ({ send }) =>
    expectStatus(await putManifest(send, repository, ABSENT, image), 400),
  )
  await check('malformed digests', 'a manifest that is none', async ({ send }) => {
    const bytes = Buffer.from('{"schemaVersion": 2, "mediaType"')
    expectStatus(await putManifest(send, repository, 'broken', { ...image, bytes }), 400)
    expectStatus(await send('GET', `/v2/${repository}/manifests/broken`, { headers: ACCEPT }), 404)
  })
}

const TAGS = ['a', 'a.1', 'b', 'c', 'd-2', 'e', 'latest', 'v1.0.0']

/** An index of nothing: taken without blobs. */
export async function checkTagLists({ check }: Cases, repository: string): Promise<void> {
  const path = `/v2/${repository}`
  const [empty] = sampleManifests('empty-index')
  for (const tag of [...TAGS].reverse()) {
    await check('tag lists', `push ${tag}`, async ({ send }) =>
      expectStatus(await putManifest(send, repository, tag, empty), 201),
    )
  }
  const lists: readonly [query: string, wanted: readonly string[]][] = [
    ['', TAGS],
    ['?n=3', TAGS.slice(0, 3)],
    ['?n=100', TAGS],
    ['?n=0', []],
    ['?last=c', TAGS.slice(4)],
    ['?n=2&last=b', TAGS.slice(3, 5)],
    ['?n=2&last=ba', TAGS.slice(3, 5)],
    ['?n=2&last=zzz', []],
  ]
  for (const [query, wanted] of lists) {
    await check('tag lists', `of ${query || 'all'}`, async ({ send }) =>
      expectEqual('tags', await tagsOf(send, path, query), wanted),
    )
  }
  await check('tag lists', 'page by page, along the links', async ({ send }) => {
    const found: string[] = []
    let next: string | undefined = `${path}/tags/list?n=3`
    for (let page = 0; next !== undefined && page < TAGS.length; page++) {
      const answer = expectStatus(await send('GET', next), 200)
      found.push(...((JSON.parse(answer.body.toString()) as { readonly tags: string[] | null }).tags ?? []))
      next = /<([^>]+)>;\s*rel="?next"?/.exec(answer.headers['link'] ?? '')?.[1]
    }
    expectEqual('tags', found, TAGS)
  })
  for (const tag of TAGS) {
    await check('tag lists', `delete ${tag}`, async ({ send }) => {
      expectStatus(await send('DELETE', `${path}/manifests/${tag}`), 202)
      if ((await tagsOf(send, path)).includes(tag)) throw new Error('it is still listed')
    })
  }
  await check('tag lists', 'delete the manifest', async ({ send }) =>
    expectStatus(await send('DELETE', `${path}/manifests/${empty.digest}`), 202),
  )
}

/** A tag that moves is read where it is now, however often it was read where it had been. */
export async function checkMovedTags({ check }: Cases, repository: string): Promise<void> {
  const target = `/v2/${repository}/manifests/moved`
  const manifests = [0, 1, 2, 3, 4].map((at) => moved(at))
  const steps = [...manifests, ...manifests.slice(0, 1)]
  for (const [at, manifest] of steps.entries()) {
    await check('moved tags', `to manifest ${at}`, async ({ send }) => {
      const put = expectStatus(await putManifest(send, repository, 'moved', manifest), 201)
      expectEqual('digest', put.headers['docker-content-digest'], manifest.digest)
      for (let time = 0; time < 2; time++) {
        const head = expectStatus(await send('HEAD', target, { headers: ACCEPT }), 200)
        expectEqual('digest of HEAD', head.headers['docker-content-digest'], manifest.digest)
        expectBytes(expectStatus(await send('GET', target, { headers: ACCEPT }), 200), manifest.bytes)
      }
    })
  }
  await check('moved tags', 'several tags with one push', async ({ send }) => {
    const [manifest] = manifests
    if (!manifest) throw new Error('there is no manifest')
    const answer = await putManifest(send, repository, `${manifest.digest}?tag=one&tag=two`, manifest)
    expectStatus(answer, 201)
    expectLocation(answer)
    if (answer.headers['oci-tag'] === undefined) throw new Error('the answer names no tags')
    for (const tag of ['one', 'two']) {
      expectStatus(await send('HEAD', `/v2/${repository}/manifests/${tag}`, { headers: ACCEPT }), 200)
    }
  })
  for (const [at, { digest }] of manifests.entries()) {
    await check('moved tags', `delete manifest ${at}`, async ({ send }) => {
      expectStatus(await send('DELETE', `/v2/${repository}/manifests/${digest}`), 202)
      expectStatus(await send('GET', `/v2/${repository}/manifests/${digest}`, { headers: ACCEPT }), 404)
    })
  }
  await check('moved tags', 'the tag is gone with its manifest', async ({ send }) =>
    expectStatus(await send('GET', target, { headers: ACCEPT }), 404),
  )
}

function moved(at: number): SampleManifest {
  const [empty] = sampleManifests('empty-index')
  const bytes = Buffer.from(empty.bytes.toString().replace(/}$/, `,"annotations":{"at":"${at}"}}`))
  return {
    ...empty,
    bytes,
    digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` as typeof empty.digest,
  }
}

function sampleManifests(name: string): [SampleManifest, ...SampleManifest[]] {
  const [first, ...others] = allSamples().find((sample) => sample.name === name)?.manifests ?? []
  if (!first) throw new Error(`there is no sample called ${name}`)
  return [first, ...others]
}

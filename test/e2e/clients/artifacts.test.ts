/** Signatures, SBOMs and their subjects: what tools push beside an image, and how they find it again. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSkopeo } from '../../support/clients/skopeo.ts'
import { buildArtifact, buildImage, buildIndex, cosignTag, type Image } from '../../support/images.ts'
import { pushImage } from '../../support/push-image.ts'
import { tempFolder } from '../../support/temp.ts'
import { DEVELOPER, startTwoSites, type TwoSites } from './two-sites.ts'

const NAME = 'team/app'

const owned = new AsyncDisposableStack()
let sites: TwoSites
let subject: Image

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  subject = await buildImage({ seed: 'signed', layers: [3000] })
  await pushImage(sites.here, NAME, 'v1', subject)
})
afterAll(() => owned.disposeAsync())

describe('an artifact with a subject', () => {
  it.each([
    ['by its digest alone, as oras attaches it', undefined],
    ['under a tag', 'sbom'],
  ])('is pushed through the site %s, and pulled warm and cold as it was', async (_title, tag) => {
    const artifact = buildArtifact({ subject, payload: `pushed ${tag}` })
    await pushImage(sites.here, NAME, tag, artifact)
    await sites.publish('team/cold', tag ?? artifact.digest, artifact)

    for (const name of [NAME, 'team/cold']) {
      const pulled = await sites.reader.getManifest(name, tag ?? artifact.digest)
      expect([pulled.status, pulled.headers['content-type']]).toEqual([200, artifact.mediaType])
      expect(pulled.body.equals(artifact.bytes)).toBe(true)
      for (const { digest } of artifact.blobs) {
        expect((await sites.reader.getBlob(name, digest)).digest).toBe(digest)
      }
    }
    expect((await sites.there.getManifest(NAME, tag ?? artifact.digest)).digest).toBe(artifact.digest)
  })

  it('is found through the fallback tag where the primary has no referrers API', async () => {
    const artifact = buildArtifact({ subject, payload: 'by fallback' })
    const fallback = cosignTag(subject, '')
    await pushImage(sites.here, NAME, undefined, artifact)
    await pushImage(sites.here, NAME, fallback, buildIndex([artifact]))

    const path = `/v2/${NAME}/referrers/${subject.digest}`
    const scope = `repository:${NAME}:pull`
    const there = await sites.there.request('GET', path, { scope })
    const here = await sites.reader.request('GET', path, { scope })
    expect([here.status, here.body.toString()]).toEqual([404, there.body.toString()])
    const referrers = await sites.reader.getManifest(NAME, fallback)
    expect(JSON.parse(referrers.body.toString()).manifests).toMatchObject([{ digest: artifact.digest }])
  })
})

describe('a signature under cosign’s tag', () => {
  it('is pushed by plain requests and copied by skopeo together with its image', async () => {
    const signature = buildArtifact({ artifactType: 'application/vnd.dev.cosign.simplesigning.v1+json' })
    await pushImage(sites.here, NAME, cosignTag(subject), signature)
    await using skopeo = await startSkopeo()
    await skopeo.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
    await using folder = await tempFolder('signed')
    for (const tag of ['v1', cosignTag(subject)]) {
      await skopeo.copy(`docker://${sites.site.host}/${NAME}:${tag}`, `dir:${folder.path}/${tag}`)
      await skopeo.copy(`dir:${folder.path}/${tag}`, `docker://${sites.site.host}/team/promoted:${tag}`)
    }

    expect((await sites.there.getManifest('team/promoted', 'v1')).digest).toBe(subject.digest)
    const promoted = await sites.there.getManifest('team/promoted', cosignTag(subject))
    expect(promoted.digest).toBe(signature.digest)
  })

  it('is replaced when the image is signed again: the new one is pulled at once', async () => {
    for (const payload of ['first', 'second']) {
      const signature = buildArtifact({ payload })
      await pushImage(sites.here, NAME, cosignTag(subject), signature)

      expect((await sites.reader.getManifest(NAME, cosignTag(subject))).digest).toBe(signature.digest)
    }
  })
})

/** The matrix moves and deletes signatures as an attacker or an admin would, in both ways of keeping them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDockerRegistry } from '../support/docker-registry.ts'
import {
  buildArtifact,
  buildImage,
  buildIndex,
  cosignTag,
  descriptorOf,
  type Image,
} from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { deleteSignatures, expectSigned, type KeptAs, type SignaturePlace, transplant } from './signatures.ts'

const owned = new AsyncDisposableStack()
let api: RegistryApi
let signed: Image
let unsigned: Image

beforeAll(async () => {
  const primary = owned.use(await startDockerRegistry())
  api = owned.use(createRegistryApi(primary.url))
  signed = await buildImage({ seed: 'signed', layers: [1000] })
  unsigned = await buildImage({ seed: 'unsigned', layers: [1000] })
})
afterAll(() => owned.disposeAsync())

async function place(repository: string, keptAs: KeptAs): Promise<SignaturePlace> {
  for (const image of [signed, unsigned]) await pushImage(api, repository, undefined, image)
  return { api, repository, keptAs }
}

describe('a signature under a tag of its own', () => {
  it('comes under another image as it is, and is gone when it is deleted', async () => {
    const own = await place('tagged', 'tag')
    const signature = buildArtifact({ payload: 'of the signed image' })
    await pushImage(api, 'tagged', cosignTag(signed), signature)

    await expectSigned([api], own, signed)
    await transplant(own, signed, unsigned)
    expect((await api.getManifest('tagged', cosignTag(unsigned))).digest).toBe(signature.digest)

    await deleteSignatures(own, signed)
    expect((await api.getManifest('tagged', signature.digest)).status).toBe(404)
  })

  it('is missed loudly', async () => {
    const own = await place('bare', 'tag')
    await expect(transplant(own, signed, unsigned)).rejects.toThrow(/is answered 404/)
    await expect(deleteSignatures(own, signed)).rejects.toThrow(/is answered 404/)
    await expect(expectSigned([api], own, signed)).rejects.toThrow(/is answered 404/)
  })
})

describe('a signature that is a referrer', () => {
  it('comes under another image with that one as its subject, listed as it then is', async () => {
    const own = await place('referring', 'referrer')
    const signature = buildArtifact({ payload: 'of the signed image', subject: signed })
    await pushImage(api, 'referring', cosignTag(signed, ''), buildIndex([signature]))

    await expectSigned([api], own, signed)
    await transplant(own, signed, unsigned)
    const index = await api.getManifest('referring', cosignTag(unsigned, ''))
    const [listed] = JSON.parse(index.body.toString()).manifests
    const moved = await api.getManifest('referring', listed.digest)
    expect([listed.digest, listed.size]).toEqual([moved.digest, moved.body.length])
    expect(JSON.parse(moved.body.toString())).toEqual({
      ...JSON.parse(signature.bytes.toString()),
      subject: descriptorOf(unsigned.manifest),
    })
  })

  it('is gone when it is deleted, and so is the list of it', async () => {
    const own = await place('deleted', 'referrer')
    const signature = buildArtifact({ subject: signed })
    await pushImage(api, 'deleted', cosignTag(signed, ''), buildIndex([signature]))

    await deleteSignatures(own, signed)
    for (const reference of [signature.digest, cosignTag(signed, '')]) {
      expect((await api.getManifest('deleted', reference)).status).toBe(404)
    }
  })
})

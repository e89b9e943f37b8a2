/** Signatures as registries hold them: taken away from an image, or put under one that nobody signed. */
import { digestOf } from '../../src/oci/digest.ts'
import { cosignTag, descriptorOf, type Image } from '../support/images.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { expectPushed } from './verify.ts'

/** Under a tag of its own, or as a referrer: by the API, or under the fallback tag where the registry has none. */
export type KeptAs = 'tag' | 'referrer'

/** Where the signatures of the images of one repository are. */
export interface SignaturePlace {
  readonly api: RegistryApi
  readonly repository: string
  readonly keptAs: KeptAs
}

/** Throws unless all these registries hold the same signatures of the image, whole, and at least one. */
export async function expectSigned(
  apis: readonly RegistryApi[],
  { repository, keptAs }: Pick<SignaturePlace, 'repository' | 'keptAs'>,
  image: Image,
): Promise<void> {
  for (const api of apis) {
    const { tag, listed } = await signaturesOf({ api, repository, keptAs }, image)
    if (tag !== undefined) await expectPushed(apis, repository, tag.name, tag.answer.digest)
    else if (listed.length === 0) throw new Error(`no signature of ${image.digest} is listed at ${api.url}`)
    for (const { digest } of listed) await expectPushed(apis, repository, digest, digest)
  }
}

/** Puts the signatures of one image under another, as one does who wants that taken for signed. */
export async function transplant(place: SignaturePlace, from: Image, to: Image): Promise<void> {
  const { api, repository } = place
  const { tag, listed } = await signaturesOf(place, from)
  const manifests: Descriptor[] = []
  for (const one of listed) manifests.push({ ...one, ...(await moved(place, one, to)) })
  if (!tag) return
  const { body } = tag.answer
  const bytes = listed.length > 0 ? Buffer.from(JSON.stringify({ ...parse(body), manifests })) : body
  created(await api.putManifest(repository, tagOf(place, to), bytes, mediaTypeOf(tag.answer)))
}

/** Deletes the signatures of an image by digest, wherever their tag leads. */
export async function deleteSignatures(place: SignaturePlace, image: Image): Promise<void> {
  const { tag, listed } = await signaturesOf(place, image)
  for (const { digest } of [...listed, ...(tag ? [tag.answer] : [])]) {
    const { status } = await place.api.deleteManifest(place.repository, digest)
    if (status !== 202) throw new Error(`deleting the signature ${digest} was answered ${status}`)
  }
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

interface Index {
  readonly manifests?: readonly Descriptor[]
}

interface Signatures {
  /** Undefined with the referrers API. */
  readonly tag: { readonly name: string; readonly answer: Answer } | undefined
  /** The referrers. */
  readonly listed: readonly Descriptor[]
}

async function signaturesOf(place: SignaturePlace, image: Image): Promise<Signatures> {
  const { api, repository, keptAs } = place
  if (keptAs === 'referrer') {
    const path = `/v2/${repository}/referrers/${image.digest}`
    const { status, body } = await api.request('GET', path, { scope: `repository:${repository}:pull` })
    if (status === 200) return { tag: undefined, listed: parse(body).manifests ?? [] }
  }
  const name = tagOf(place, image)
  const answer = await read(place, name)
  return { tag: { name, answer }, listed: parse(answer.body).manifests ?? [] }
}

function tagOf({ keptAs }: SignaturePlace, image: Image): string {
  return cosignTag(image, keptAs === 'tag' ? '.sig' : '')
}

function parse(body: Buffer): Index {
  return JSON.parse(body.toString())
}

/** A referrer, as one of this image instead; with its new digest and size. */
async function moved(
  place: SignaturePlace,
  { digest: old }: Descriptor,
  to: Image,
): Promise<Partial<Descriptor>> {
  const { api, repository } = place
  const found = await read(place, old)
  const bytes = Buffer.from(JSON.stringify({ ...parse(found.body), subject: descriptorOf(to.manifest) }))
  const digest = digestOf(bytes)
  created(await api.putManifest(repository, digest, bytes, mediaTypeOf(found)))
  return { digest, size: bytes.length }
}

async function read({ api, repository }: SignaturePlace, reference: string): Promise<Answer> {
  const found = await api.getManifest(repository, reference)
  if (found.status !== 200) throw new Error(`the signature ${reference} is answered ${found.status}`)
  return found
}

function created({ status, body }: Answer): void {
  if (status !== 201) throw new Error(`putting a signature was answered ${status}: ${body.toString()}`)
}

function mediaTypeOf({ headers }: Answer): string {
  return headers['content-type'] ?? ''
}

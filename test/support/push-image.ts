/** Putting an image of the factory into a registry by plain HTTP. */
import { allBlobs, allManifests, type Image } from './images.ts'
import type { Answer, RegistryApi } from './registry-api.ts'

/**
 * Pushes blobs, then manifests with children before parents; the last one under `tag`, or by its digest when there is
 * none. Throws when anything is not answered 201. Resolves with the answer to the last manifest.
 */
export async function pushImage(
  api: RegistryApi,
  name: string,
  tag: string | undefined,
  image: Image,
): Promise<Answer> {
  for (const blob of allBlobs(image)) created(await api.pushBlob(name, blob), `blob ${blob.digest}`)
  let last: Answer | undefined
  for (const manifest of allManifests(image)) {
    const reference = manifest === image && tag !== undefined ? tag : manifest.digest
    const answer = await api.putManifest(name, reference, manifest.bytes, manifest.mediaType)
    last = created(answer, `manifest ${reference}`)
  }
  if (!last) throw new Error('an image has at least its own manifest')
  return last
}

function created(answer: Answer, what: string): Answer {
  if (answer.status === 201) return answer
  throw new Error(
    `pushing ${what} was answered ${answer.status}: ${answer.body.toString('utf8').slice(0, 500)}`,
  )
}

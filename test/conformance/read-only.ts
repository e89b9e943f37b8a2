/** Content that is at a primary before a read-only run. */
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { allSamples, type Sample } from './samples.ts'

const WANTED = ['image', 'index', 'artifact', 'artifacts-with-subject']

export interface ReadOnlyContent {
  readonly manifests: readonly { readonly digest: string; readonly tag?: string | undefined }[]
  /** Digests. */
  readonly blobs: readonly string[]
  /** Digests of what something refers to. */
  readonly referrers: readonly string[]
}

/** Pushes it; throws when the registry does not take it. */
export async function pushReadOnlyContent(url: string, repository: string): Promise<ReadOnlyContent> {
  await using api = createRegistryApi(url)
  const samples = allSamples().filter(({ name }) => WANTED.includes(name))
  for (const sample of samples) await pushSample(api, repository, sample)
  const manifests = samples.flatMap((sample) => sample.manifests)
  return {
    manifests: manifests.map(({ digest, tag }) => ({ digest, tag })),
    blobs: [...new Set(samples.flatMap(({ blobs }) => blobs.map(({ digest }) => digest)))],
    referrers: [...new Set(manifests.flatMap(({ subject }) => subject ?? []))],
  }
}

async function pushSample(api: RegistryApi, repository: string, { blobs, manifests }: Sample): Promise<void> {
  for (const { digest, bytes } of blobs) {
    const started = await api.startUpload(repository)
    const pushed = await api.finishUpload(repository, started.headers['location'] ?? '', digest, bytes)
    if (pushed.status !== 201) throw new Error(`pushing blob ${digest} was answered ${pushed.status}`)
  }
  for (const { tag, digest, bytes, mediaType } of manifests) {
    const pushed = await api.putManifest(repository, tag ?? digest, bytes, mediaType)
    if (pushed.status !== 201)
      throw new Error(`pushing manifest ${tag ?? digest} was answered ${pushed.status}`)
  }
}

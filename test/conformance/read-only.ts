/** Content that is at a primary before a read-only run, and the settings that name it to the suite. */
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { allSamples, type Sample } from './samples.ts'

const WANTED = ['image', 'index', 'artifact', 'artifacts-with-subject']

/** Pushes it; throws when the registry does not take it. */
export async function pushReadOnlyContent(url: string, repository: string): Promise<Record<string, string>> {
  await using api = createRegistryApi(url)
  const samples = allSamples().filter(({ name }) => WANTED.includes(name))
  for (const sample of samples) await pushSample(api, repository, sample)
  const manifests = samples.flatMap((sample) => sample.manifests)
  return {
    OCI_API_PUSH: 'false',
    OCI_RO_DATA_TAGS: words(manifests.flatMap(({ tag }) => tag ?? [])),
    OCI_RO_DATA_MANIFESTS: words(manifests.map(({ digest }) => digest)),
    OCI_RO_DATA_BLOBS: words(samples.flatMap(({ blobs }) => blobs.map(({ digest }) => digest))),
    OCI_RO_DATA_REFERRERS: words(manifests.flatMap(({ subject }) => subject ?? [])),
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

function words(texts: readonly string[]): string {
  return [...new Set(texts)].join(' ')
}

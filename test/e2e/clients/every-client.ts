/** The five real clients side by side, and what they say in words of their own. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startBuildah } from '../../support/clients/buildah.ts'
import type { RegistryClient } from '../../support/clients/client.ts'
import { startContainerd } from '../../support/clients/containerd.ts'
import { type Docker, startDocker } from '../../support/clients/docker.ts'
import { startPodman } from '../../support/clients/podman.ts'
import { type Skopeo, startSkopeo } from '../../support/clients/skopeo.ts'
import { tempFolder } from '../../support/temp.ts'

export const CLIENT_NAMES = ['docker', 'podman', 'buildah', 'containerd', 'skopeo'] as const
export type ClientName = (typeof CLIENT_NAMES)[number]

export interface EveryClient extends AsyncDisposable {
  readonly docker: Docker
  readonly skopeo: Skopeo
  get(name: ClientName): RegistryClient
  /** Somebody else, whose storage does not hold what `name` holds. */
  otherThan(name: ClientName): RegistryClient
  login(host: string, user: { readonly username: string; readonly password: string }): Promise<void>
}

export async function startEveryClient(): Promise<EveryClient> {
  await using starting = new AsyncDisposableStack()
  const clients = {
    docker: starting.use(await startDocker()),
    podman: starting.use(await startPodman()),
    buildah: starting.use(await startBuildah()),
    containerd: starting.use(await startContainerd()),
    skopeo: starting.use(await startSkopeo()),
  }
  const owned = starting.move()
  return {
    docker: clients.docker,
    skopeo: clients.skopeo,
    get: (name) => clients[name],
    otherThan: (name) => clients[name === 'skopeo' ? 'docker' : 'skopeo'],
    async login(host, { username, password }) {
      for (const client of Object.values(clients)) await client.login(host, username, password)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Pulls, and asks the client which manifest it has now. */
export async function pulledDigest(client: RegistryClient, reference: string): Promise<string | undefined> {
  if (client.name === 'skopeo') return await digestCopied(client, reference)
  await client.pull(reference)
  const { stdout } = await client.exec(inspection(client, reference))
  // The last one: what is listed before it may be the reference, with a digest of its own.
  return stdout.match(/sha256:[0-9a-f]{64}/g)?.at(-1)
}

function inspection(client: RegistryClient, reference: string): string[] {
  switch (client.name) {
    case 'docker':
      return ['image', 'inspect', '--format', '{{index .RepoDigests 0}}', reference]
    case 'podman':
      return ['image', 'inspect', '--format', '{{.Digest}}', reference]
    case 'buildah':
      return ['inspect', '--type', 'image', '--format', '{{.FromImageDigest}}', reference]
    default:
      return ['images', 'ls', `name==${reference}`]
  }
}

/** Into a folder that takes every manifest as it is, where an OCI layout would have Docker's converted. */
async function digestCopied(skopeo: RegistryClient, reference: string): Promise<string> {
  await using folder = await tempFolder('copied')
  const file = join(folder.path, 'digest')
  const options = ['--all', '--quiet', '--src-tls-verify=false', '--digestfile', file]
  await skopeo.exec(['copy', ...options, `docker://${reference}`, `dir:${join(folder.path, 'image')}`])
  return (await readFile(file, 'utf8')).trim()
}

/** Gives what the client holds under one reference another one. Nothing to do for skopeo, which holds nothing. */
export async function retag(client: RegistryClient, reference: string, other: string): Promise<void> {
  await client.exec(
    client.name === 'containerd' ? ['images', 'tag', reference, other] : ['tag', reference, other],
  )
}

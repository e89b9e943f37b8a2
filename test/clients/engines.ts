/** The clients of Debian: engines with a storage of their own, and skopeo. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pulledDigest, retag } from '../e2e/clients/every-client.ts'
import { startBuildah } from '../support/clients/buildah.ts'
import type { RegistryClient } from '../support/clients/client.ts'
import { startContainerd } from '../support/clients/containerd.ts'
import { startDocker } from '../support/clients/docker.ts'
import { startPodman } from '../support/clients/podman.ts'
import { startSkopeo } from '../support/clients/skopeo.ts'
import { installPrograms } from '../support/install.ts'
import { runProgram } from '../support/process.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { intoLayout, readLayout, withLayout } from './layouts.ts'
import { type Credentials, type Held, type StartTool, type Tool, versionIn } from './tool.ts'

type Inspect = (client: RegistryClient, reference: string, folder: TempFolder) => Promise<Held>

export const ENGINES: Readonly<Record<string, StartTool>> = {
  docker: () => startEngine('dockerd', startDocker, ['version', '--format', '{{.Server.Version}}'], layersOf),
  podman: async () => {
    const podman = await startEngine('podman', startPodman, ['--version'], layersOf)
    const list = ['search', '--list-tags', '--limit', '1000', '--tls-verify=false']
    return {
      ...podman,
      async tags(repository) {
        const [, ...rows] = lines(await podman.exec([...list, repository])) // The first is the head.
        return rows.map((row) => row.trim().split(/\s+/).at(-1) ?? '')
      },
    }
  },
  buildah: () => startEngine('buildah', startBuildah, ['--version'], buildahLayers),
  ctr: async () => ({ ...(await startEngine('ctr', startContainerd, ['--version'], exported)), name: 'ctr' }),
  skopeo: startSkopeoTool,
}

interface Engine extends Tool {
  exec(args: readonly string[]): Promise<string>
}

async function startEngine(
  program: string,
  start: () => Promise<RegistryClient>,
  version: readonly string[],
  inspect: Inspect,
): Promise<Engine> {
  await installPrograms([program])
  await using starting = new AsyncDisposableStack()
  const client = starting.use(await start())
  const folder = starting.use(await tempFolder(`matrix-${program}`))
  const exec = async (args: readonly string[]) => (await client.exec(args)).stdout
  const said = versionIn(await exec(version))
  const owned = starting.move()
  return {
    name: client.name,
    version: said,
    exec,
    indexes: 'own platform',
    login: (host, { username, password }) => client.login(host, username, password),
    async push(reference) {
      await client.make(reference, reference)
      await client.push(reference)
      return undefined
    },
    async pull(reference) {
      const digest = await pulledDigest(client, reference)
      return { ...(await inspect(client, reference, folder)), digest }
    },
    async copy(from, to) {
      await client.pull(from)
      await retag(client, from, to)
      await client.push(to)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const unpackedAs = (unpacked: readonly string[]): Held => ({ digest: undefined, files: [], unpacked })

async function layersOf(client: RegistryClient, reference: string): Promise<Held> {
  const { stdout } = await client.exec(['image', 'inspect', '--format', '{{json .RootFS.Layers}}', reference])
  return unpackedAs(JSON.parse(stdout))
}

async function buildahLayers(client: RegistryClient, reference: string): Promise<Held> {
  const { stdout } = await client.exec(['inspect', '--type', 'image', reference])
  const image: { OCIv1: { rootfs: { diff_ids: string[] } } } = JSON.parse(stdout)
  return unpackedAs(image.OCIv1.rootfs.diff_ids)
}

/** containerd keeps what it fetched, and gives it out as a layout. */
async function exported(client: RegistryClient, reference: string, { path }: TempFolder): Promise<Held> {
  const [archive, folder] = [join(path, 'exported.tar'), join(path, 'exported')]
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder)
  await client.exec(['images', 'export', '--platform', 'linux/amd64', archive, reference])
  await runProgram('tar', ['-C', folder, '-xf', archive])
  return await readLayout(folder)
}

async function startSkopeoTool(): Promise<Tool> {
  await installPrograms(['skopeo'])
  await using starting = new AsyncDisposableStack()
  const skopeo = starting.use(await startSkopeo())
  const folder = starting.use(await tempFolder('matrix-skopeo'))
  const version = versionIn((await skopeo.exec(['--version'])).stdout)
  const owned = starting.move()
  return {
    name: 'skopeo',
    version,
    indexes: 'whole',
    login: (host: string, { username, password }: Credentials) => skopeo.login(host, username, password),
    async push(reference, image) {
      await withLayout(image, (layout) => skopeo.copy(`oci:${layout}:latest`, `docker://${reference}`))
      return image.digest
    },
    pull: (reference) =>
      intoLayout(folder, (layout) => skopeo.copy(`docker://${reference}`, `oci:${layout}:latest`)),
    copy: (from, to) => skopeo.copy(`docker://${from}`, `docker://${to}`),
    remove: async (reference) =>
      void (await skopeo.exec(['delete', '--tls-verify=false', `docker://${reference}`])),
    async tags(repository) {
      const { stdout } = await skopeo.exec(['list-tags', '--tls-verify=false', `docker://${repository}`])
      const listed: { Tags: string[] } = JSON.parse(stdout)
      return listed.Tags
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}

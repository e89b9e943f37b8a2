/** A home for skopeo, podman and buildah: everything they read or write lies in it. */
import { type RunResult, runProgram } from '../process.ts'
import { type TempFolder, tempFolder } from '../temp.ts'
import type { ExecOptions } from './client.ts'

export interface ContainersHome extends AsyncDisposable {
  readonly folder: TempFolder
  readonly authFile: string
  run(program: string, args: readonly string[], options?: ExecOptions): Promise<RunResult>
}

/** Never asks a public registry for a short name, and talks plain HTTP to 127.0.0.1 on any port. */
const REGISTRIES = `unqualified-search-registries = []
[[registry]]
location = "127.0.0.1"
insecure = true
`

export async function containersHome(program: string): Promise<ContainersHome> {
  const folder = await tempFolder(program)
  // For root too, these programs look here before they look into /etc/containers.
  await folder.write('.config/containers/policy.json', '{"default":[{"type":"insecureAcceptAnything"}]}')
  const registries = await folder.write('registries.conf', REGISTRIES)
  const authFile = `${folder.path}/auth.json`
  const env = {
    HOME: folder.path,
    XDG_RUNTIME_DIR: folder.path,
    TMPDIR: folder.path,
    REGISTRY_AUTH_FILE: authFile,
    CONTAINERS_REGISTRIES_CONF: registries,
    CONTAINERS_STORAGE_CONF: await folder.write('storage.conf', storageConfiguration(folder.path)),
    BUILDAH_ISOLATION: 'chroot',
  }
  return {
    folder,
    authFile,
    run: (command, args, options) => runProgram(command, args, { env, ...options }),
    [Symbol.asyncDispose]: folder[Symbol.asyncDispose],
  }
}

/** vfs works on any filesystem and leaves no mount behind. */
function storageConfiguration(path: string): string {
  return `[storage]
driver = "vfs"
runroot = "${path}/runroot"
graphroot = "${path}/storage"
`
}

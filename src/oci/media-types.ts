/**
 * The manifest media types this registry knows, and what it asks the primary for.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md
 */
export const MEDIA_TYPES = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  octetStream: 'application/octet-stream',
} as const

/** The types a manifest is kept under. Schema 1 is not among them: its digest is not that of the bytes sent. */
const KEPT: readonly string[] = [
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.dockerManifest,
  MEDIA_TYPES.dockerList,
  MEDIA_TYPES.ociArtifact,
]

/** Everything we can keep: the primary then never rewrites or refuses what it has because of our `Accept`. */
export const FULL_ACCEPT: string = KEPT.join(', ')

export function isManifestMediaType(mediaType: string): boolean {
  return KEPT.includes(mediaType)
}

/**
 * Whether a type stands literally in a client's `Accept`, the way Distribution and GitLab read it: parameters are
 * dropped, wildcards match nothing (facts/gitlab.md 5.1). Anything else is the primary's to negotiate.
 */
export function acceptsLiterally(accept: string | undefined, mediaType: string): boolean {
  if (accept === undefined) return false
  // Looked for where it lies: lists of five types are read for every manifest, and cutting them up makes garbage.
  for (let at = accept.indexOf(mediaType); at !== -1; at = accept.indexOf(mediaType, at + 1)) {
    if (standsAlone(accept, at, at + mediaType.length)) return true
  }
  return false
}

/** Whether what lies from `start` to `end` is a whole item of the list, its parameters apart. */
function standsAlone(list: string, start: number, end: number): boolean {
  let before = start - 1
  while (isSpace(list[before])) before--
  let after = end
  while (isSpace(list[after])) after++
  return (before < 0 || list[before] === ',') && (after >= list.length || ',;'.includes(list[after] ?? ''))
}

function isSpace(character: string | undefined): boolean {
  return character === ' ' || character === '\t'
}

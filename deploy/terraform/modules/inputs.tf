# What a cluster's part in one region is told in every cloud. Each cluster module has a link to this file.
variable "name" {
  description = "Name of the cluster, the same in every region; part of every resource's name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first: load balancers take 32 in all."
  }
}

variable "region" {
  description = "The region as Meridian knows it: the --region of nodes, and regions[].name of the document."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.region))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first."
  }
}

variable "cidr" {
  description = "Addresses of this region, a /16 to /20 that no other region of the cluster has."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "Write a network such as 10.1.0.0/16, from /16 to /20."
  }
}

variable "zones" {
  description = "Zones of the cloud, one to three; machines are spread over them."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 3
    error_message = "Name one to three zones."
  }
}

variable "regions" {
  description = "Networks of all regions of the cluster by name, this one too."
  type        = map(string)

  validation {
    condition     = lookup(var.regions, var.region, "") == var.cidr
    error_message = "This region must be among them, with the network that cidr says."
  }
}

variable "operator_cidrs" {
  description = "From where operators reach SSH and the admin API; none by default."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.operator_cidrs, "0.0.0.0/0")
    error_message = "Not the whole world: name your own networks."
  }
}

variable "listeners" {
  description = "Ports that the document's listeners have, open to the world."
  type        = list(object({ port = number, protocol = string }))
  default     = [{ port = 80, protocol = "tcp" }, { port = 443, protocol = "tcp" }, { port = 443, protocol = "udp" }]

  validation {
    condition     = alltrue([for one in var.listeners : one.port >= 1 && one.port <= 65535 && contains(["tcp", "udp"], one.protocol)])
    error_message = "A port is 1 to 65535, a protocol tcp or udp."
  }
}

variable "etcd_members" {
  description = "Members of the whole cluster's etcd and their private addresses, those of other regions too: one, three or five in all."
  type        = map(string)

  validation {
    condition     = contains([1, 3, 5], length(var.etcd_members))
    error_message = "An etcd has one, three or five members: an even number survives no more than the odd one below."
  }

  validation {
    condition     = alltrue([for address in values(var.etcd_members) : can(cidrhost("${address}/32", 0))])
    error_message = "Each member has an IPv4 address."
  }
}

variable "etcd_here" {
  description = "Which of the members stand in this region, and in which zone: its number in zones by the member's name."
  type        = map(number)

  validation {
    condition     = length(setsubtract(keys(var.etcd_here), keys(var.etcd_members))) == 0
    error_message = "Members that stand here must be among members."
  }
}

variable "authority_member" {
  description = "The member whose machine is the cluster's authority too; empty if none of this region is."
  type        = string
  default     = ""
}

variable "nodes" {
  description = "How many nodes: at least, at most, and for how busy processors (percent) the group aims. Where a cloud has no groups, min is how many."
  type = object({
    min         = optional(number, 2)
    max         = optional(number, 4)
    cpu_percent = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.nodes.min >= 1 && var.nodes.max >= var.nodes.min && var.nodes.max <= 50
    error_message = "At least one, at most 50, and max not below min."
  }

  validation {
    condition     = var.nodes.cpu_percent >= 10 && var.nodes.cpu_percent <= 90
    error_message = "10 to 90 percent; the rest is what carries the load of a neighbour that died."
  }
}

variable "limit_nodes" {
  description = "How many nodes the whole cluster may ever have: limits are cut into that many parts when it begins. The sum of all regions' max."
  type        = number

  validation {
    condition     = var.limit_nodes >= 1 && var.limit_nodes <= 1000
    error_message = "1 to 1000."
  }
}

variable "node_args" {
  description = "Further flags of meridian node, such as --capacity=2000/s."
  type        = string
  default     = ""

  validation {
    condition     = !can(regex("[\"'`$\\\\\n]", var.node_args))
    error_message = "No quotes, dollars, backslashes and line breaks."
  }
}

variable "zone" {
  description = "The zone that the cluster answers for, such as gw.example.com: what the parent delegates."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.zone))
    error_message = "Write a name such as gw.example.com, with no dot at the end."
  }
}

variable "bundle_url" {
  description = "Where machines fetch the bundle that scripts/bundle made: an HTTPS address that they reach."
  type        = string

  validation {
    condition     = can(regex("^https://[^[:space:]']+$", var.bundle_url))
    error_message = "Write an https:// address."
  }
}

variable "bundle_sha256" {
  description = "SHA-256 of the bundle, as scripts/bundle printed it."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.bundle_sha256))
    error_message = "Write 64 hexadecimal digits, in lower case."
  }
}

variable "authority" {
  description = "Where machines join and renew certificates: https://HOST:9902."
  type        = string

  validation {
    condition     = can(regex("^https://[0-9A-Za-z.:-]+:[0-9]+$", var.authority))
    error_message = "Write https://HOST:PORT."
  }
}

variable "join_token" {
  description = "Token of meridian pki token, good for as many machines as join. It is in user-data and state: let it be good for an hour, and for this region's names and network only."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^mrd1\\.[A-Za-z0-9_-]{43}\\.[0-9a-f]{64}$", var.join_token))
    error_message = "This is no token: make one with meridian pki token."
  }
}
